"""Limit repeated log lines: log a line once in a while, and count it in between."""

import re
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

WINDOW = 3600.0  # seconds for which the same thing is said once
MOST = 64  # different things of one speaker in one window
NUMBER = re.compile(r"0x[0-9a-fA-F]+|\d+(?:\.\d+)*")


@dataclass(slots=True)
class LogLimiter:
    """Decides if a line is worth its place in the journal."""

    clock: Callable[[], float] = time.monotonic
    window: float = WINDOW
    most: int = MOST
    _said: dict[Hashable, tuple[float, int]] = field(default_factory=dict)

    def worth_saying(self, key: Hashable) -> int | None:
        """Return the lines of *key* kept back since its last one; None if this one is kept back as well."""
        now = self.clock()
        said_at, kept_back = self._said.get(key, (None, 0))
        if said_at is not None and now - said_at < self.window:
            self._said[key] = (said_at, kept_back + 1)
            return None
        if said_at is None and not self._room(now):
            return None
        self._said[key] = (now, 0)
        return kept_back

    def forget(self) -> int:
        """Start again, because the trouble is over; return the number of lines that were kept back."""
        kept_back = sum(count for _, count in self._said.values())
        self._said.clear()
        return kept_back

    def _room(self, now: float) -> bool:
        if len(self._said) < self.most:
            return True
        self._said = {key: value for key, value in self._said.items() if now - value[0] < self.window}
        return len(self._said) < self.most


def gist(text: str) -> str:
    """Return *text* without its numbers: a pid or a time in it does not make it new."""
    return NUMBER.sub("#", text)
