"""The log records, counts and observations of a probe in its process, until an answer takes them along."""

import logging
from collections.abc import Sequence
from typing import Any

from mlopsd.probe import Metric, Number

MOST_LOG_RECORDS = 100  # of one answer; the rest is counted
MOST_OBSERVATIONS = 10_000


class Outbox(logging.Handler):
    """The handler of the probe's logger, and the source of its counters and histograms."""

    def __init__(self) -> None:
        super().__init__()
        self._records: list[list[Any]] = []
        self._counts: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
        self._observations: list[list[Any]] = []
        self._dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Keep *record* as level, event and fields."""
        if len(self._records) >= MOST_LOG_RECORDS:
            self._dropped += 1
            return
        plain = logging.makeLogRecord({}).__dict__
        fields = {name: repr(value) for name, value in record.__dict__.items() if name not in plain}
        fields.pop("message", None)
        self._records.append([record.levelno, record.getMessage()[:2000], fields])

    def counter(self, metric: Metric) -> "OutboxCounter":
        """A counter whose increments go to the daemon with the next answer."""
        return OutboxCounter(self, metric)

    def histogram(self, metric: Metric) -> "OutboxHistogram":
        """A histogram whose observations go to the daemon with the next answer."""
        return OutboxHistogram(self, metric)

    def count(self, name: str, labels: tuple[tuple[str, str], ...], amount: Number) -> None:
        """Add to what is kept."""
        self._counts[name, labels] = self._counts.get((name, labels), 0) + amount

    def observe(
        self, name: str, labels: tuple[tuple[str, str], ...], value: Number | tuple[list[int], Number]
    ) -> None:
        """Add a value, or counts and their sum, to what is kept, as far as one answer can carry it."""
        if len(self._observations) < MOST_OBSERVATIONS:
            self._observations.append([name, labels, value])
        else:
            self._dropped += 1

    def taken(self) -> dict[str, Any]:
        """Everything that was kept, which is then no longer kept."""
        kept = {
            "log": self._records,
            "counts": [[name, labels, amount] for (name, labels), amount in self._counts.items()],
            "observations": self._observations,
            "dropped": self._dropped,
        }
        self._records, self._counts, self._observations, self._dropped = [], {}, [], 0
        return kept


class OutboxCounter:
    """See `Outbox.counter`."""

    def __init__(self, ledger: Outbox, metric: Metric) -> None:
        self._ledger = ledger
        self._metric = metric

    def inc(self, amount: Number = 1, **labels: object) -> None:
        """Add *amount*."""
        self._ledger.count(self._metric.name, self._metric.label_values(labels), amount)


class OutboxHistogram:
    """See `Outbox.histogram`."""

    def __init__(self, ledger: Outbox, metric: Metric) -> None:
        self._ledger = ledger
        self._metric = metric

    def observe(self, value: Number, **labels: object) -> None:
        """Count *value*."""
        self._ledger.observe(self._metric.name, self._metric.label_values(labels), value)

    def observe_counts(self, counts: Sequence[int], total: Number, **labels: object) -> None:
        """Count what was counted elsewhere."""
        self._ledger.observe(self._metric.name, self._metric.label_values(labels), (list(counts), total))
