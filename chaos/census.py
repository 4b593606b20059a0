"""A count of the resources that a daemon holds. More than before is a leak."""

import os
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

from chaos import kin


@dataclass(frozen=True, slots=True)
class Census:
    """The open descriptors, threads, descendants and resident bytes of a daemon."""

    descriptors: int
    threads: int
    children: int
    rss: int

    def __str__(self) -> str:
        size = self.rss / 2**20
        return f"{self.descriptors} fds, {self.threads} threads, {self.children} children, {size:.1f} MiB"


def census(pid: int) -> Census:
    """Count what *pid* holds now."""
    pages = int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1])
    return Census(
        descriptors=sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()),
        threads=sum(1 for _ in Path(f"/proc/{pid}/task").iterdir()),
        children=len(kin.family(pid)),
        rss=pages * os.sysconf("SC_PAGE_SIZE"),
    )


def least(found: Sequence[Census]) -> Census:
    """Of several moments, number by number: what a request or a check holds for a moment is not held."""
    return Census(*map(min, zip(*map(astuple, found), strict=True)))


def median(found: Sequence[Census]) -> Census:
    """Of several looks, number by number."""
    return Census(*map(statistics.median_low, zip(*map(astuple, found), strict=True)))


def leaks(first: Census, now: Census, more: Census) -> Iterator[str]:
    """Everything that *now* has more of than *first* and *more*."""
    for name in Census.__slots__:
        before, after = getattr(first, name), getattr(now, name)
        if after > before + getattr(more, name):
            yield f"{name} grew from {before:g} to {after:g}"
