"""The limit of repeated log lines: one line per window, with the number of suppressed repeats."""

import re
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

WINDOW = 3600.0  # seconds; equal lines within it are logged once
MOST = 64  # different lines of one source in one window
NUMBER = re.compile(r"0x[0-9a-fA-F]+|\d+(?:\.\d+)*")


@dataclass(slots=True)
class LogLimiter:
    """The limiter of the repeated lines of one source."""

    clock: Callable[[], float] = time.monotonic
    window: float = WINDOW
    most: int = MOST
    _lines: dict[Hashable, tuple[float, int]] = field(default_factory=dict)

    def allow(self, key: Hashable) -> int | None:
        """Return the number of lines of *key* suppressed since its last one; None to suppress this one."""
        now = self.clock()
        logged_at, repeats = self._lines.get(key, (None, 0))
        if logged_at is not None and now - logged_at < self.window:
            self._lines[key] = (logged_at, repeats + 1)
            return None
        if logged_at is None and not self._room(now):
            return None
        self._lines[key] = (now, 0)
        return repeats

    def forget(self) -> int:
        """Forget all lines, because the problem is over; return the number of suppressed ones."""
        repeats = sum(count for _, count in self._lines.values())
        self._lines.clear()
        return repeats

    def _room(self, now: float) -> bool:
        if len(self._lines) < self.most:
            return True
        self._lines = {key: value for key, value in self._lines.items() if now - value[0] < self.window}
        return len(self._lines) < self.most


def fingerprint(text: str) -> str:
    """Return *text* without its numbers, so that another pid or time does not make it a new line."""
    return NUMBER.sub("#", text)
