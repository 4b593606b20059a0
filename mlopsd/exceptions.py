"""Exceptions of third-party code, made safe to print."""


def safe_message(error: BaseException) -> str:
    """Return the message of *error*; the exception of a third party may be unable to give it."""
    try:
        return str(error)
    except Exception as broken:  # noqa: BLE001  # the boundary to third-party code
        return f"(no words: {type(broken).__name__})"
