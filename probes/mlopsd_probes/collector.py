"""The collector of one signal; the system probe is a row of them, and the GPU probe one for each card."""

from collections.abc import Iterable
from itertools import chain
from typing import ClassVar

from mlopsd.probe import Advice, Finding, Metric, Reading, Status


class Collector:
    """A collector of one signal, which keeps its own state between checks; its verb is ``collect``.

    Attributes:
        name: the name of the finding that it makes when it fails.
        findings: the name of every finding that it makes when it does not; with none it only reports.
        metrics: every number that it reports.
    """

    name: ClassVar[str]
    findings: ClassVar[tuple[str, ...]] = ()
    metrics: ClassVar[tuple[Metric, ...]] = ()

    def unreadable(
        self, source: str, cause: object, *, status: Status = Status.UNKNOWN, subject: str | None = None
    ) -> Reading:
        """Return a reading with one finding: *source* cannot be read, for *cause*."""
        summary = f"cannot read {source}: {cause}"
        return Reading([Finding(self.name, status, summary, subject, advice=Advice.WATCH)])


def join(readings: Iterable[Reading]) -> Reading:
    """Return one reading with the findings, samples and facts of all *readings*."""
    each = tuple(readings)
    return Reading(
        list(chain.from_iterable(reading.findings for reading in each)),
        list(chain.from_iterable(reading.samples for reading in each)),
        {key: value for reading in each for key, value in reading.facts.items()},
    )
