"""Count predicted values, so that the daemon can show drift without reading answers."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from . import outputs
from .libraries import numpy

MOST_CLASSES = 20
OTHER = "other"


class PredictionStats:
    """Counts numbers by *buckets*, ascending upper bounds, and classes up to `MOST_CLASSES`."""

    def __init__(self, buckets: Sequence[float]) -> None:
        self._buckets = numpy.asarray(buckets, dtype=float)
        self._classes: set[str] = set()

    def count(self, answer: Any) -> dict[str, Any]:
        """Return ``counts`` by bucket, the ``total`` of the numbers, and ``classes``.

        The last count is above all bounds. A total too large for a float becomes the largest float, since it
        must be finite.
        """
        found = outputs.leaves(answer)
        counted: dict[str, Any] = {}
        if found.numbers:
            numbers = found.joined()
            finite = numbers[numpy.isfinite(numbers)]
            bucket = numpy.searchsorted(self._buckets, finite, side="left")
            counted["counts"] = numpy.bincount(bucket, minlength=len(self._buckets) + 1).tolist()
            with numpy.errstate(over="ignore"):
                total = float(finite.sum())
            counted["total"] = max(-sys.float_info.max, min(total, sys.float_info.max))
        if found.classes:
            counted["classes"] = self._capped(found.classes)
        return counted

    def _capped(self, classes: dict[str, int]) -> dict[str, int]:
        capped: dict[str, int] = {}
        for name, times in classes.items():
            if name not in self._classes and len(self._classes) < MOST_CLASSES:
                self._classes.add(name)
            known = name if name in self._classes else OTHER
            capped[known] = capped.get(known, 0) + times
        return capped
