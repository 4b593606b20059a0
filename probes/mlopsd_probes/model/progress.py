"""The steps of a version on its way into service, for readings and sentences."""

from collections.abc import Callable
from typing import Literal

from mlopsd.predictor import Progress

Doing = Literal["judge", "fetch", "load", "canary", "swap", "drain"]


class ProgressTracker:
    """Holds the step in progress, and shows each change.

    Attributes:
        current: None while nothing is in progress.
    """

    def __init__(self, show: Callable[[Progress | None], None]) -> None:
        self._show = show
        self.current: Progress | None = None

    def set(self, progress: Progress | None) -> None:
        """Report *progress*, or None at its end."""
        self.current = progress
        self._show(progress)
