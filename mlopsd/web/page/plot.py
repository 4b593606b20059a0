"""The last readings of a probe as a small plot: how long each took, and above it what was not well."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mlopsd.board import PAST_READINGS
from mlopsd.entry import PastReading
from mlopsd.format import format_duration
from mlopsd.probe import Status

BAR, SLOT = 3, 4  # units wide: a bar, and the place that it has with the gap to the next
BASE, TALLEST, SHORTEST = 48, 30, 2  # units: where bars stand, and the height of the longest and the quickest
SIGNS = {
    Status.HEALTHY: "",
    Status.DEGRADED: "M{x} 7h3v5h-3z",  # half a block
    Status.UNKNOWN: "M{x} 1h3v3h-3zM{x} 8h3v3h-3z",  # a block with a hole
    Status.UNHEALTHY: "M{x} 0h3v12h-3z",  # a whole block
}
"""The sign above the bar of a reading that was not well, so that it is seen without colours."""


@dataclass(frozen=True, slots=True)
class Plot:
    """A bar for each reading, the newest on the right.

    Attributes:
        paths: for each status the SVG path of the readings that had it.
        caption: the same in words.
    """

    paths: Sequence[tuple[Status, str]]
    caption: str
    width: int = PAST_READINGS * SLOT
    height: int = BASE


def plot(past: Sequence[PastReading]) -> Plot | None:
    """Return the plot of *past*, the oldest first; None if there is no reading yet."""
    return Plot(tuple(_paths(past)), caption(past)) if past else None


def caption(past: Sequence[PastReading]) -> str:
    """Return *past* in words: "last 120 readings: 118 healthy, 2 unknown; newest healthy; longest 300 ms"."""
    raw = [reading.raw_status for reading in past]
    counts = ", ".join(f"{raw.count(status)} {status}" for status in Status if status in raw)
    many = "last reading" if len(past) == 1 else f"last {len(past)} readings"
    longest = max(reading.duration for reading in past)
    return f"{many}: {counts}; newest {raw[-1]}; longest {format_duration(longest)}"


def _paths(past: Sequence[PastReading]) -> Iterator[tuple[Status, str]]:
    longest = max(reading.duration for reading in past) or 1
    first = PAST_READINGS - len(past)
    bars = [(one.raw_status, _bar(one, (first + at) * SLOT, longest)) for at, one in enumerate(past)]
    for status in Status:
        if path := "".join(bar for raw, bar in bars if raw == status):
            yield status, path


def _bar(reading: PastReading, x: int, longest: float) -> str:
    height = SHORTEST + (TALLEST - SHORTEST) * reading.duration / longest
    return f"M{x} {BASE}v-{height:.1f}h{BAR}V{BASE}z{SIGNS[reading.raw_status].format(x=x)}"
