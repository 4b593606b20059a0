"""The collector of one signal; the system probe has a row of them, the GPU probe a row for each card."""

from collections.abc import Iterable
from itertools import chain
from typing import ClassVar

from mlopsd.probe import Advice, Finding, Metric, Reading, Status


class Collector:
    """A collector of one signal; it keeps its own state between checks, and its method is ``collect``.

    Attributes:
        name: the name of the finding that it makes if it fails.
        findings: the names of all other findings that it makes; empty if it only reports numbers.
        metrics: every metric that it reports.
    """

    name: ClassVar[str]
    findings: ClassVar[tuple[str, ...]] = ()
    metrics: ClassVar[tuple[Metric, ...]] = ()

    def unreadable(
        self,
        source: str,
        cause: object,
        advice: Advice,
        *,
        status: Status = Status.UNKNOWN,
        subject: str | None = None,
    ) -> Reading:
        """Return a reading with one finding: *source* cannot be read, for *cause*."""
        summary = f"cannot read {source}: {cause}"
        return Reading([Finding(self.name, status, summary, subject, advice=advice)])


def join(readings: Iterable[Reading]) -> Reading:
    """Return one reading with the findings, samples and facts of all *readings*."""
    each = tuple(readings)
    return Reading(
        list(chain.from_iterable(reading.findings for reading in each)),
        list(chain.from_iterable(reading.samples for reading in each)),
        {key: value for reading in each for key, value in reading.facts.items()},
    )
