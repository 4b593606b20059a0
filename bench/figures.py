"""Several measurements of one thing as three numbers."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the nearest-rank percentile: a value that was measured, never one in between."""
    ordered = sorted(values)
    return ordered[max(math.ceil(len(ordered) * percent / 100), 1) - 1]


@dataclass(frozen=True, slots=True)
class Spread:
    """One figure a round, in *unit*; goals are held against its median."""

    values: tuple[float, ...]
    unit: str = ""

    @property
    def middle(self) -> float:
        """The median over the rounds."""
        return median(self.values)

    def __str__(self) -> str:
        many = (min(self.values), self.middle, max(self.values)) if len(self.values) > 1 else self.values
        return f"{' / '.join(map(rounded, many))} {self.unit}".rstrip()


def spread(values: Iterable[float], unit: str = "") -> Spread:
    """Return the figures of all rounds."""
    return Spread(tuple(values), unit)


def percentiles(rounds: Iterable[Sequence[float]], percent: float) -> Spread:
    """Of the milliseconds of each round, by `percentile`."""
    return spread((percentile(values, percent) for values in rounds), "ms")


def p99(rounds: Iterable[Sequence[float]]) -> Spread:
    """Of the milliseconds of each round."""
    return percentiles(rounds, 99)


def longest(rounds: Iterable[Sequence[float]]) -> Spread:
    """Return the longest of the milliseconds of each round."""
    return percentiles(rounds, 100)


def ratios(ours: Spread, theirs: Spread, unit: str = "") -> Spread:
    """Round by round, ours over theirs."""
    return spread((our / their for our, their in zip(ours.values, theirs.values, strict=True)), unit)


def rounded(value: float) -> str:
    """Three significant digits, without an exponent."""
    if value == 0:
        return "0"
    digits = max(2 - math.floor(math.log10(abs(value))), 0)
    return f"{value:.{min(digits, 4)}f}"
