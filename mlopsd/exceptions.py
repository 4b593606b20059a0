"""Exceptions of third-party code, made safe to print and to carry."""


def safe_message(error: BaseException) -> str:
    """Return the message of *error*; the exception of a third party may be unable to give it."""
    try:
        return str(error)
    except Exception as broken:  # noqa: BLE001  # the boundary to third-party code
        return f"(no words: {type(broken).__name__})"


def as_exception(error: BaseException) -> Exception:
    """Return *error*, or a RuntimeError with its message if *error* would end more than one call."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    said = safe_message(error)
    return RuntimeError(f"{type(error).__name__}: {said}" if said else type(error).__name__)
