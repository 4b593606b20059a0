"""A probe that reports as many series as it is told to, from a process of its own as those of hardware do."""

from collections.abc import Sequence

from bench import workload
from mlopsd.probe import Finding, Metric, Options, Probe, Reading, Schedule, Status

FINE = Finding("series", Status.HEALTHY, "there are as many as were asked for")


class SeriesOptions(Options):
    """*number* of series."""

    number: int


class SeriesProbe(Probe[SeriesOptions]):
    """Looks at nothing; each reading has other values."""

    Options = SeriesOptions
    schedule = Schedule(interval=workload.INTERVAL, timeout=5, isolation="process")
    _look = 0

    @classmethod
    def declares(cls, options: SeriesOptions) -> Sequence[Metric]:
        """A metric for each family."""
        return list(_metrics(options.number).values())

    def check(self) -> Reading:
        self._look += 1
        metrics = _metrics(self.options.number)
        samples = [
            metrics[one.family].sample(
                workload.value(at, self._look), **dict(zip(workload.LABELS, one.labels, strict=True))
            )
            for at, one in enumerate(workload.series(self.options.number))
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
