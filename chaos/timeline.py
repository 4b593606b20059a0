"""The faults of a run with their ends, and every broken promise, by time."""

import time
from collections import defaultdict
from dataclasses import dataclass

MOST_OF_A_RULE = 20  # violations of one rule that are told; the rest is counted


@dataclass(slots=True)
class ExcusedSpan:
    """A span of the steady clock in which something is excused; open while *ended* is None."""

    began: float
    ended: float | None = None

    def overlap(self, began: float, ended: float) -> float:
        """Seconds that it has in common with the span from *began* to *ended*."""
        end = ended if self.ended is None else self.ended
        return max(0.0, min(end, ended) - max(self.began, began))

    def meets(self, began: float, ended: float) -> bool:
        """Return whether it has a moment in common with the span."""
        return self.began <= ended and (self.ended is None or self.ended >= began)


class Timeline:
    """Keeps violations and windows; *loud*, each line is printed as it comes."""

    def __init__(self, *, loud: bool) -> None:
        self._loud = loud
        self._start = time.monotonic()
        self.violations: list[str] = []
        self._by_rule: dict[str, int] = defaultdict(int)
        self._windows: dict[str, list[ExcusedSpan]] = defaultdict(list)

    def note(self, text: str) -> None:
        """Print *text* with its moment."""
        if self._loud:
            print(f"{time.monotonic() - self._start:8.2f}  {text}", flush=True)

    def violate(self, rule: str, text: str) -> None:
        """Record a broken promise: *rule* in words that are always the same, and what was seen."""
        self._by_rule[rule] += 1
        self.violations.append(f"{rule}: {text}")
        if self._by_rule[rule] <= MOST_OF_A_RULE:
            self.note(f"VIOLATION  {rule}: {text}")

    def open(self, kind: str) -> None:
        """From now on *kind* is excused."""
        if not self.is_open(kind):
            self._windows[kind].append(ExcusedSpan(time.monotonic()))

    def close(self, kind: str) -> None:
        """No longer."""
        if self.is_open(kind):
            self._windows[kind][-1].ended = time.monotonic()

    def is_open(self, kind: str) -> bool:
        """Return whether *kind* is excused now."""
        return bool(self._windows[kind]) and self._windows[kind][-1].ended is None

    def excused(self, kinds: tuple[str, ...], began: float, ended: float) -> bool:
        """Return whether one of *kinds* was excused between *began* and *ended*."""
        return any(window.meets(began, ended) for kind in kinds for window in self._windows[kind])

    def overlap(self, kinds: tuple[str, ...], began: float, ended: float) -> float:
        """Seconds between *began* and *ended* that *kinds* take up."""
        return sum(window.overlap(began, ended) for kind in kinds for window in self._windows[kind])
