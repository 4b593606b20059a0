"""A context for unit tests, which records what the probe counts, shows and requests."""

import atexit
import logging
import math
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlopsd.probe import Context, Metric, Number, Reading

ScrapedSeries = tuple[str, tuple[tuple[str, str], ...]]


class RecordedInstruments:
    """The counters and histograms of a test, with the recorded numbers."""

    def __init__(self) -> None:
        self._counts: defaultdict[ScrapedSeries, float] = defaultdict(float)
        self._observed: defaultdict[ScrapedSeries, list[float]] = defaultdict(list)

    def counter(self, metric: Metric) -> "RecordedCounter":
        """Return the counter that *metric* declares.

        Raises:
            ValueError: It is no counter.
        """
        _check_kind(metric, "counter")
        return RecordedCounter(metric, self._counts)

    def histogram(self, metric: Metric) -> "RecordedHistogram":
        """Return the histogram that *metric* declares.

        Raises:
            ValueError: It is no histogram.
        """
        _check_kind(metric, "histogram")
        return RecordedHistogram(metric, self._observed)

    def count(self, metric: Metric, **labels: object) -> float:
        """Return the count of *metric* with *labels*, 0 if it was never increased."""
        return self._counts.get((metric.name, metric.label_values(labels)), 0.0)

    def observed(self, metric: Metric, **labels: object) -> Sequence[float]:
        """Return the observed values of *metric* with *labels*, in order.

        For values that were counted elsewhere it has their sum.
        """
        return tuple(self._observed.get((metric.name, metric.label_values(labels)), ()))


def _check_kind(metric: Metric, kind: str) -> None:
    if metric.kind != kind:
        raise ValueError(
            f"metric {metric.name!r} is a {metric.kind}, not a {kind}; declare it with kind={kind!r}"
        )


@dataclass(frozen=True, slots=True)
class RecordedCounter:
    """A counter that writes its increments to *counts*."""

    metric: Metric
    counts: defaultdict[ScrapedSeries, float]

    def inc(self, amount: Number = 1, **labels: object) -> None:
        """Add *amount*, which is 0 or more."""
        if not (isinstance(amount, int | float) and 0 <= amount < math.inf):
            found = f"metric {self.metric.name!r} is a counter and cannot grow by {amount!r:.60}"
            raise ValueError(f"{found}; add a finite number from 0 up")
        self.counts[self.metric.name, self.metric.label_values(labels)] += amount


@dataclass(frozen=True, slots=True)
class RecordedHistogram:
    """A histogram that writes its values to *observed*."""

    metric: Metric
    observed: defaultdict[ScrapedSeries, list[float]]

    def observe(self, value: Number, **labels: object) -> None:
        """Record *value*."""
        self.observed[self.metric.name, self.metric.label_values(labels)].append(float(value))

    def observe_counts(self, counts: Sequence[int], total: Number, **labels: object) -> None:
        """Record the sum of values that were counted elsewhere."""
        if len(counts) != len(self.metric.buckets) + 1:
            raise ValueError(f"metric {self.metric.name!r} needs {len(self.metric.buckets) + 1} counts")
        self.observed[self.metric.name, self.metric.label_values(labels)].append(float(total))


@dataclass(frozen=True, slots=True)
class RecordedContext(Context):
    """A context that records.

    Attributes:
        instruments: The counters and histograms, with `RecordedInstruments.count` and ``observed``.
        shown: The facts of each call of *show_facts*.
        requests: One item for each call of *request_check*.
    """

    instruments: RecordedInstruments
    shown: list[Mapping[str, Any]] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


def context(
    state_dir: Path | None = None,
    *,
    name: str = "probe",
    timeout: float = 10.0,
    board: Mapping[str, Reading] | None = None,
) -> RecordedContext:
    """Return a context for a unit test.

    Args:
        state_dir: The probe's folder; by default a temporary one, which the end of the tests removes.
        name: The probe's name.
        timeout: The seconds that one check may take.
        board: The last readings of other probes.
    """
    shown: list[Mapping[str, Any]] = []
    requests: list[str] = []
    return RecordedContext(
        name,
        state_dir or _temporary_folder(),
        logging.getLogger(f"mlopsd.probe.{name}"),
        board or {},
        RecordedInstruments(),
        timeout,
        request_check=lambda: requests.append(name),
        show_facts=lambda facts: shown.append(dict(facts)),
        shown=shown,
        requests=requests,
    )


def _temporary_folder() -> Path:
    folder = tempfile.mkdtemp(prefix="mlopsd-test-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
