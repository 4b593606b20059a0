"""systemd's journal: whether a stream goes to it, and the priority at the start of a line (sd-daemon(3))."""

import logging
import os
from collections.abc import Mapping
from typing import TextIO

PRIORITIES = {
    logging.DEBUG: 7,
    logging.INFO: 6,
    logging.WARNING: 4,
    logging.ERROR: 3,
    logging.CRITICAL: 2,
}  # syslog's


def is_journal(stream: TextIO, variables: Mapping[str, str] | None = None) -> bool:
    """Return whether *stream* goes to the journal, by the device and inode in ``JOURNAL_STREAM``."""
    expected = (os.environ if variables is None else variables).get("JOURNAL_STREAM")
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):  # a stream without a descriptor, or a closed one
        return False
    return expected == f"{status.st_dev}:{status.st_ino}"


def with_priority(text: str, level: int) -> str:
    """Return *text* with the priority of the logging *level* at the start of each line."""
    prefix = f"<{PRIORITIES.get(level, PRIORITIES[logging.INFO])}>"
    return "\n".join(prefix + line for line in text.split("\n"))
