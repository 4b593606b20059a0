"""The error of a command: lines for standard error and an exit status, never a traceback."""

import logging
import sys

from mlopsd.journal import is_journal, with_priority

CANNOT_TELL = 3  # the status UNKNOWN of monitoring plugins


class CommandError(Exception):
    """The error of a command that cannot be done.

    Attributes:
        lines: Lines of the form "cannot X: cause; fix".
        status: The exit status; None stands for the command's default for errors.
    """

    def __init__(self, *lines: str, status: int | None = None) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines
        self.status = status


def print_error(*lines: str) -> None:
    """Print *lines* to standard error, each under the program's name, and as errors in the journal."""
    to_journal = is_journal(sys.stderr)
    for line in lines:
        text = f"mlopsd: {line}"
        print(with_priority(text, logging.ERROR) if to_journal else text, file=sys.stderr)
