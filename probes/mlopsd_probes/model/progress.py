"""The progress of a rollout, for readings and sentences."""

import math
import time
from dataclasses import replace
from typing import Literal

from mlopsd.predictor import Progress, VersionFacts
from mlopsd.probe import Context

SHOWN_EVERY = 0.5  # seconds between two updates on a fetch

Doing = Literal["judge", "fetch", "load", "canary", "swap", "drain"]


class ProgressTracker:
    """Keeps the step in progress, and shows each change.

    Attributes:
        current: None while nothing is in progress.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self.current: Progress | None = None
        self._shown_at = -math.inf  # on the monotonic clock

    def set(self, progress: Progress | None) -> None:
        """Set and show *progress*; None at the end."""
        self.current = progress
        self._shown_at = -math.inf
        self._show()

    def advance(self, size: int, total: int | None) -> None:
        """Record that *size* of *total* bytes have come; show it every `SHOWN_EVERY`, and at the end."""
        if self.current is None:
            return
        self.current = replace(self.current, bytes=size, total_bytes=total)
        if (now := time.monotonic()) - self._shown_at >= SHOWN_EVERY or size == total:
            self._shown_at = now
            self._show()

    def _show(self) -> None:
        self._context.show_facts(VersionFacts(progress=self.current).facts())
