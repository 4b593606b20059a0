"""The failure of a command: lines for standard error and an exit status, never a traceback."""

import sys

CANNOT_TELL = 3  # the status UNKNOWN of monitoring plugins


class CommandError(Exception):
    """A command cannot be done.

    Attributes:
        lines: each "cannot X: cause; fix".
        status: the exit status; None is the command's own for a failure.
    """

    def __init__(self, *lines: str, status: int | None = None) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines
        self.status = status


def print_error(*lines: str) -> None:
    """Print *lines* to standard error, each under the program's name."""
    for line in lines:
        print(f"mlopsd: {line}", file=sys.stderr)
