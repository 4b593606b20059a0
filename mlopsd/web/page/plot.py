"""The last readings of a probe as a small plot: how long each took, and above it what was not well."""

from collections.abc import Sequence

from mlopsd.board import PAST_READINGS
from mlopsd.entry import PastReading
from mlopsd.probe import Status
from mlopsd.web.page.markup import duration_text

BAR, SLOT = 3, 4  # units wide: a bar, and the place that it has with the gap to the next
BASE, TALLEST, SHORTEST = 48, 30, 2  # units: where bars stand, and the height of the longest and the quickest
SIGNS = {
    Status.HEALTHY: "",
    Status.DEGRADED: "M{x} 7h3v5h-3z",  # half a block
    Status.UNKNOWN: "M{x} 1h3v3h-3zM{x} 8h3v3h-3z",  # a block with a hole
    Status.UNHEALTHY: "M{x} 0h3v12h-3z",  # a whole block
}
"""What stands above the bar of a reading that was not well, so that it is seen without colours."""


def plot(past: Sequence[PastReading]) -> str:
    """A bar for each of *past*, the newest on the right, and the same in words; nothing of nothing."""
    if not past:
        return ""
    paths = "".join(_path(status, past) for status in Status)
    return (
        f'<figure class="plot">\n<svg viewBox="0 0 {PAST_READINGS * SLOT} {BASE}" '
        'preserveAspectRatio="none" aria-hidden="true" focusable="false">'
        f"{paths}</svg>\n<figcaption>{caption(past)}</figcaption>\n</figure>\n"
    )


def caption(past: Sequence[PastReading]) -> str:
    """*past* in words: "last 120 readings: 118 healthy, 2 unknown; newest healthy; longest 300 ms"."""
    raw = [reading.raw_status for reading in past]
    counts = ", ".join(f"{raw.count(status)} {status}" for status in Status if status in raw)
    many = "last reading" if len(past) == 1 else f"last {len(past)} readings"
    longest = max(reading.duration for reading in past)
    return f"{many}: {counts}; newest {raw[-1]}; longest {duration_text(longest)}"


def _path(status: Status, past: Sequence[PastReading]) -> str:
    """All readings that were *status*, as one path."""
    longest = max(reading.duration for reading in past) or 1
    first = PAST_READINGS - len(past)
    drawn = "".join(
        _drawn(reading, (first + index) * SLOT, longest)
        for index, reading in enumerate(past)
        if reading.raw_status == status
    )
    return f'<path class="{status}" d="{drawn}"/>' if drawn else ""


def _drawn(reading: PastReading, x: int, longest: float) -> str:
    height = SHORTEST + (TALLEST - SHORTEST) * reading.duration / longest
    return f"M{x} {BASE}v-{height:.1f}h{BAR}V{BASE}z{SIGNS[reading.raw_status].format(x=x)}"
