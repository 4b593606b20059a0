"""Progress on a terminal: a line that is redrawn, and the text for a rollout."""

import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Self, TextIO

from mlopsd.cli.terminal.text import fill_width, sanitize
from mlopsd.format import format_age, format_ratio, format_size
from mlopsd.predictor import Progress

ERASE = "\r\x1b[K"
BAR_CELLS = 24
ROLLOUT_BAR_CELLS = 14  # so that the line fits 80 columns
SPINNER = "|/-\\"
RATE_SAMPLES = 10  # the number of samples for the download rate


class ProgressLine:
    """A progress line at the end of a terminal, removed at exit. Other streams get a line per step."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._shown = ""
        self._printed = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._shown:
            self._stream.write(ERASE)
            self._stream.flush()

    def show(self, text: object, plain: str = "") -> None:
        """Replace the line by *text*. If the stream is not a terminal, print *plain* if it is new."""
        if self._stream.isatty():
            self._draw(sanitize(text)[: fill_width(self._stream) - 1])
        elif plain and plain != self._printed:
            print(sanitize(plain), file=self._stream, flush=True)
            self._printed = plain

    def _draw(self, line: str) -> None:
        if line != self._shown:
            self._stream.write(ERASE + line)
            self._stream.flush()
            self._shown = line


class RolloutMeter:
    """The progress of a rollout as text, with the download rate.

    Rates and times use this host's clock, since the daemon may run on another host.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._step = ""
        self._began = 0.0
        self._fetched: deque[tuple[float, float]] = deque(maxlen=RATE_SAMPLES)

    def format_live(self, progress: Progress) -> str:
        """Return a line for the terminal: a bar for a download of known size, or else a spinner."""
        now = self._record(progress)
        got, total = progress.bytes, progress.total_bytes
        if got is None:
            elapsed = now - self._began
            return f"{SPINNER[int(elapsed * 2) % len(SPINNER)]} {progress.activity()} … {format_age(elapsed)}"
        if not total:
            return f"{progress.activity()} {format_size(got)}{self._format_rate()}"
        share = min(got / total, 1)
        drawn = f"{draw_bar(share, ROLLOUT_BAR_CELLS)} {format_ratio(share)} of {format_size(total)}"
        return f"{progress.activity()} {drawn}{self._format_rate(total - got)}"

    def _record(self, progress: Progress) -> float:
        """Record the step and the bytes, and return the time."""
        now = self._clock()
        if (step := progress.activity()) != self._step:
            self._step, self._began = step, now
            self._fetched.clear()
        if progress.bytes is not None:
            self._fetched.append((now, progress.bytes))
        return now

    def _format_rate(self, left: float | None = None) -> str:
        """Return the rate, with the time for *left* bytes if known, or "" before there is a rate."""
        (then, had), (now, has) = self._fetched[0], self._fetched[-1]
        if now <= then or has <= had:
            return ""
        rate = (has - had) / (now - then)
        remaining = f", {format_age(left / rate)} left" if left is not None else ""
        return f", {format_size(rate)}/s{remaining}"


def draw_bar(ratio: float, cells: int = BAR_CELLS) -> str:
    """Return *ratio*, 0 to 1, as a bar of *cells*: ``[######------]``."""
    full = round(min(max(ratio, 0), 1) * cells)
    return f"[{'#' * full}{'-' * (cells - full)}]"


def format_log_line(progress: Progress) -> str:
    """Return a line for a log, which stays the same during the step."""
    total = progress.total_bytes
    return f"{progress.activity()}, {format_size(total)}" if total else progress.activity()
