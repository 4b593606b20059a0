"""What a stranger's code raised, made safe to tell and to carry."""


def safe_message(error: BaseException) -> str:
    """What *error* says, which a stranger's exception may be unable to."""
    try:
        return str(error)
    except Exception as broken:  # noqa: BLE001  # the boundary to a stranger's code
        return f"(no words: {type(broken).__name__})"


def as_exception(error: BaseException) -> Exception:
    """*error*, or an exception with its words if it is of a kind that would end more than one call."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    said = safe_message(error)
    return RuntimeError(f"{type(error).__name__}: {said}" if said else type(error).__name__)
