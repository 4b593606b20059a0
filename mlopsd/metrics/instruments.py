"""What a probe holds in its hand: its own series of the counters and histograms that it declared."""

from collections.abc import Callable, Mapping, Sequence

from mlopsd.metrics.live import LiveCounter, LiveHistogram
from mlopsd.probe import Metric, Number


class ProbeCounter:
    """The series of one probe in a counter."""

    def __init__(self, probe: str, metric: Metric, family: LiveCounter) -> None:
        self._probe = probe
        self._metric = metric
        self._family = family

    def inc(self, amount: Number = 1, **labels: object) -> None:
        """Add *amount*.

        Raises:
            ValueError: *amount* is not a finite number from 0 up, or *labels* are not the declared ones.
        """
        self._family.count(key_of(self._probe, self._metric, labels), amount)


class ProbeHistogram:
    """The series of one probe in a histogram."""

    def __init__(self, probe: str, metric: Metric, family: LiveHistogram) -> None:
        self._probe = probe
        self._metric = metric
        self._family = family

    def observe(self, value: Number, **labels: object) -> None:
        """Count *value* in its bucket; one that is not finite is dropped and counted as an error.

        Raises:
            ValueError: *value* is not a number, or *labels* are not the declared ones.
        """
        self._family.note(key_of(self._probe, self._metric, labels), value)

    def observe_counts(self, counts: Sequence[int], total: Number, **labels: object) -> None:
        """Count what was counted elsewhere, bucket by bucket.

        Raises:
            ValueError: not one count for each bound and one beyond, or *labels* are not the declared ones.
        """
        self._family.note_counts(key_of(self._probe, self._metric, labels), counts, total)


class ProbeInstruments:
    """Hands them out to *probe*; *counter* and *histogram* find the family of a declared metric."""

    def __init__(
        self,
        probe: str,
        declared: tuple[Metric, ...],
        counter: Callable[[Metric], LiveCounter],
        histogram: Callable[[Metric], LiveHistogram],
    ) -> None:
        self._probe = probe
        self._declared = declared
        self._counter = counter
        self._histogram = histogram

    def counter(self, metric: Metric) -> ProbeCounter:
        """The counter that *metric* declares.

        Raises:
            ValueError: the probe does not declare it, or it is not a counter.
        """
        self._check(metric)
        return ProbeCounter(self._probe, metric, self._counter(metric))

    def histogram(self, metric: Metric) -> ProbeHistogram:
        """The histogram that *metric* declares.

        Raises:
            ValueError: the probe does not declare it, or it is not a histogram.
        """
        self._check(metric)
        return ProbeHistogram(self._probe, metric, self._histogram(metric))

    def _check(self, metric: Metric) -> None:
        if metric not in self._declared:
            names = ", ".join(one.name for one in self._declared) or "none"
            raise ValueError(f"probe {self._probe!r} does not declare {metric.name!r}; it declares: {names}")


def key_of(probe: str, metric: Metric, labels: Mapping[str, object]) -> tuple[str, ...]:
    """The label values of one series.

    Raises:
        ValueError: *labels* are not the declared ones.
    """
    return (probe, *(value for _, value in metric.label_values(labels)))
