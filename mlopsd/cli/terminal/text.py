"""Text for a terminal or a pipe: its width, its colours, and no control characters."""

import os
import shutil
import sys
import textwrap
from collections.abc import Iterable
from typing import TextIO

NARROWEST = 60  # columns
WIDEST = 120
PIPE_WIDTH = 80  # columns for a pipe or a file
GAP = 2  # columns between two cells
COLOURS = {"healthy": "32", "degraded": "33", "unknown": "35", "unhealthy": "31;1", "dim": "2"}  # SGR


def fill_width(stream: TextIO = sys.stdout) -> int:
    """Return the number of columns to fill."""
    columns = shutil.get_terminal_size((PIPE_WIDTH, 24)).columns if stream.isatty() else PIPE_WIDTH
    return min(max(columns, NARROWEST), WIDEST)


def is_coloured(stream: TextIO) -> bool:
    """Return whether *stream* is a terminal whose user allows colours (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(text: str, colour: str, *, coloured: bool) -> str:
    """Return *text* in the colour of the status *colour*."""
    return f"\x1b[{COLOURS[colour]}m{text}\x1b[0m" if coloured and colour in COLOURS else text


def sanitize(text: object) -> str:
    """Return *text* on one line without control characters, which could control this terminal."""
    return printable(" ".join(str(text).split()))


def printable(text: str) -> str:
    """Return *text* with each control character, line ends too, replaced by a question mark."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def align(rows: Iterable[tuple[str, str]]) -> list[tuple[str, int]]:
    """Return *rows* of two cells as lines, each with the column where its second cell starts."""
    pairs = list(rows)
    column = max((len(left) for left, _ in pairs), default=0) + GAP
    return [(f"{left:{column}}{right}".rstrip(), column) for left, right in pairs]


def wrap(line: str, indent: int, stream: TextIO = sys.stdout) -> str:
    """Wrap *line* to the terminal, with further lines indented by *indent*. Leave it whole for a pipe."""
    if not stream.isatty():
        return line
    lead = len(line) - len(line.lstrip())
    return textwrap.fill(
        line.lstrip(),
        fill_width(stream),
        initial_indent=" " * lead,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
