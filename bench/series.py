"""A probe that reports as many series as it is told to, from a process of its own as those of hardware do."""

from collections.abc import Sequence

from bench import workload
from mlopsd.probe import Context, Finding, Metric, Options, Probe, Reading, Schedule, Status

FINE = Finding("series", Status.HEALTHY, "there are as many as were asked for")


class SeriesOptions(Options):
    """*number* of series."""

    number: int


class SeriesProbe(Probe[SeriesOptions]):
    """Looks at nothing; each reading has other values."""

    Options = SeriesOptions
    schedule = Schedule(interval=workload.INTERVAL, timeout=5, isolation="process", critical=True)
    _look = 0

    def __init__(self, options: SeriesOptions, context: Context) -> None:
        super().__init__(options, context)
        metrics = _metrics(options.number)
        self._labels = [
            (metrics[one.family], dict(zip(workload.LABELS, one.labels, strict=True)))
            for one in workload.series(options.number)
        ]

    @classmethod
    def declares(cls, options: SeriesOptions) -> Sequence[Metric]:
        """Return a metric for each family."""
        return list(_metrics(options.number).values())

    def check(self) -> Reading:
        """Return every series with its next value."""
        self._look += 1
        samples = [
            metric.sample(workload.value(at, self._look), **labels)
            for at, (metric, labels) in enumerate(self._labels)
        ]
        return Reading(findings=[FINE], samples=samples, facts={"series": len(samples)})


def _metrics(number: int) -> dict[str, Metric]:
    return {
        one.family: Metric(
            one.family,
            help="A quantity of a card.",
            kind="counter" if one.counts else "gauge",
            labels=workload.LABELS,
        )
        for one in workload.series(number)
    }
