"""How far a version is on its way into service, from one look at the model's reading to the next."""

import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from mlopsd.cli.terminal.progress import bar
from mlopsd.cli.terminal.text import duration

WORDS = {
    "resolve": "asking the registry",
    "judge": "judging version {}",
    "fetch": "fetching version {}",
    "load": "loading version {}",
    "canary": "proving version {}",
    "swap": "swapping to version {}",
    "drain": "draining the version before",
}
SPINNER = "|/-\\"
CELLS = 14  # of the bar, so that all fits 80 columns
LOOKS = 10  # that the rate is measured over
UNITS = (("GB", 1e9), ("MB", 1e6), ("kB", 1e3))
Fact = Mapping[str, Any]


class Meter:
    """Puts the fact ``progress`` of a model's readings into words, with the rate of what is fetched.

    Rates and times are those of this host's clock: the daemon's may be a host far away.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._step = ""
        self._began = 0.0
        self._looks: deque[tuple[float, float]] = deque(maxlen=LOOKS)

    def live(self, progress: Fact) -> str:
        """A line to be drawn anew at each look: a bar for a fetch of known size, else a spinner."""
        now = self._look(progress)
        got, total = progress.get("bytes"), progress.get("total_bytes")
        if got is None:
            elapsed = now - self._began
            return f"{SPINNER[int(elapsed * 2) % len(SPINNER)]} {sentence(progress)} … {elapsed:.0f} s"
        if not total:
            return f"{sentence(progress)} {size(got)}{self._rate_text()}"
        share = min(got / total, 1)
        drawn = f"{bar(share, CELLS)} {share:.0%} of {size(total)}"
        return f"{sentence(progress)} {drawn}{self._rate_text(total - got)}"

    def _look(self, progress: Fact) -> float:
        """Take note of it; the time."""
        now = self._clock()
        if (step := sentence(progress)) != self._step:
            self._step, self._began = step, now
            self._looks.clear()
        if (got := progress.get("bytes")) is not None:
            self._looks.append((now, got))
        return now

    def _rate_text(self, left: float | None = None) -> str:
        """How fast, and if *left* bytes are known, how long still; nothing before it can be told."""
        (then, had), (now, has) = self._looks[0], self._looks[-1]
        if now <= then or has <= had:
            return ""
        rate = (has - had) / (now - then)
        return f", {size(rate)}/s" + (f", {duration(left / rate)} left" if left is not None else "")


def sentence(progress: Fact) -> str:
    """The step alone: "fetching version 7"; of a step that a newer daemon has, its name."""
    step = str(progress.get("step", "reloading"))
    return WORDS.get(step, step + " version {}").format(progress.get("version", "?"))


def plain(progress: Fact) -> str:
    """A line for a log, the same for as long as the step lasts."""
    total = progress.get("total_bytes")
    return f"{sentence(progress)}, {size(total)}" if total else sentence(progress)


def size(count: float) -> str:
    """*count* bytes as people say it."""
    for name, unit in UNITS:
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count:.0f} bytes"
