"""Exceptions of third-party code, made safe and short to print."""

import logging
import sys
from types import TracebackType

LONGEST_MESSAGE = 2_000  # characters
LONGEST_TRACEBACK = 20_000


def safe_message(error: BaseException) -> str:
    """Return the message of *error*, shortened, or a substitute if a third party's ``__str__`` raises."""
    try:
        return str(error)[:LONGEST_MESSAGE]
    except Exception as broken:  # noqa: BLE001  # the boundary to third-party code
        return f"(no message: {type(broken).__name__})"


def unformatted(record: logging.LogRecord, error: Exception) -> logging.LogRecord:
    """Return the record of a log call that cannot be formatted because of *error*, with its place."""
    kept = ("name", "levelno", "levelname", "created", "probe")
    found = {name: value for name, value in record.__dict__.items() if name in kept}
    found["reason"] = f"{type(error).__name__}: {safe_message(error)}"
    found["where"] = f"{record.filename}:{record.lineno}"
    return logging.makeLogRecord({**found, "msg": "log call failed"})


def shortened(traceback: str) -> str:
    """Return the first and the last whole lines of *traceback*, since a message can have megabytes."""
    if len(traceback) <= LONGEST_TRACEBACK:
        return traceback
    half = LONGEST_TRACEBACK // 2
    first, last = traceback[:half].rpartition("\n")[0], traceback[-half:].partition("\n")[2]
    return f"{first}\n… {len(traceback) - len(first) - len(last)} characters …\n{last}"


def author_frames(error: BaseException) -> TracebackType | None:
    """Return the traceback of *error* from the first frame of third-party code on, or the whole one."""
    found = error.__traceback__
    while found is not None and _is_ours(found):
        found = found.tb_next
    return found or error.__traceback__


def _is_ours(frame: TracebackType) -> bool:
    """Return whether *frame* is of mlopsd or of Python's library."""
    known = frame.tb_frame.f_globals
    module = str(known.get("__package__") or known.get("__name__"))  # a process's __name__ is __main__
    package = module.partition(".")[0]
    return package == "mlopsd" or package in sys.stdlib_module_names
