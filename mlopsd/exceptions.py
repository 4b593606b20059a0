"""Exceptions of third-party code, made safe to print."""


def safe_message(error: BaseException) -> str:
    """Return the message of *error*, or a substitute if a third party's ``__str__`` raises."""
    try:
        return str(error)
    except Exception as broken:  # noqa: BLE001  # the boundary to third-party code
        return f"(no message: {type(broken).__name__})"
