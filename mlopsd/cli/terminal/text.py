"""Text for a terminal or a pipe: as wide as it is, in colour only where somebody sees it, and harmless."""

import os
import shutil
import sys
import textwrap
from collections.abc import Iterable
from typing import TextIO

NARROWEST = 60  # columns
WIDEST = 120
UNSEEN = 80  # columns where nobody looks
GAP = 2  # columns between two cells
COLOURS = {"healthy": "32", "degraded": "33", "unknown": "35", "unhealthy": "31;1", "dim": "2"}  # SGR


def width(stream: TextIO = sys.stdout) -> int:
    """How many columns to fill."""
    columns = shutil.get_terminal_size((UNSEEN, 24)).columns if stream.isatty() else UNSEEN
    return min(max(columns, NARROWEST), WIDEST)


def is_coloured(stream: TextIO) -> bool:
    """Whether *stream* is a terminal whose user has not said no (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def painted(text: str, colour: str, *, coloured: bool) -> str:
    """*text* in the colour of the status *colour*."""
    return f"\x1b[{COLOURS[colour]}m{text}\x1b[0m" if coloured and colour in COLOURS else text


def harmless(text: object) -> str:
    """*text* on one line without control characters: a host far away must not write on this terminal."""
    words = " ".join(str(text).split())
    return "".join(letter if letter.isprintable() else "?" for letter in words)


def duration(seconds: float) -> str:
    """*seconds* in the largest unit that fits: ``4 s``, ``12 min``, ``3 h``, ``9 d``."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size:.0f} {unit}"
    return f"{seconds:.0f} s"


def columns(rows: Iterable[tuple[str, str]]) -> list[tuple[str, int]]:
    """*rows* of two cells, the second ones below each other; with each line, where the second cell begins."""
    pairs = list(rows)
    column = max((len(left) for left, _ in pairs), default=0) + GAP
    return [(f"{left:{column}}{right}".rstrip(), column) for left, right in pairs]


def fitted(line: str, indent: int, stream: TextIO = sys.stdout) -> str:
    """*line* in as many as the terminal has room for, the further ones *indent* columns in; else as it is."""
    if not stream.isatty():
        return line
    lead = len(line) - len(line.lstrip())
    return textwrap.fill(
        line.lstrip(),
        width(stream),
        initial_indent=" " * lead,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
