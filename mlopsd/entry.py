"""One probe on the board: its last readings and its damped status."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import takewhile
from typing import Any

from mlopsd.probe import Finding, Reading, Status

MOST_KEPT = 100  # lasting findings of earlier readings; a page and a scrape show no more either


@dataclass(frozen=True, slots=True)
class Terms:
    """Terms by which the readings of one probe are believed; from its table in the configuration.

    Attributes:
        interval: seconds between two checks.
        timeout: seconds that one check may take.
        fail_after: readings in a row, all worse than the status, before it worsens.
        recover_after: readings in a row, all better than the status, before it recovers.
        critical: whether it decides the verdict, or makes it degraded at most.
    """

    interval: float
    timeout: float
    fail_after: int = 1
    recover_after: int = 1
    critical: bool = True

    @property
    def believed(self) -> float:
        """Seconds after which a reading is too old: three intervals and the timeout."""
        return 3 * self.interval + self.timeout


@dataclass(frozen=True, slots=True)
class Entry:
    """The board's account of one probe.

    Attributes:
        reading: what was last found out, whatever the damping makes of it. Its status is its own. Its
            findings include those that are *kept*.
        status: the damped status: what is shown, scraped and counted.
        streak: how many readings in a row had ``reading.status``.
        since: when *status* last changed.
        checked_at: when the last reading arrived; None before the first.
        measured_at: the same on the board's steady clock, seconds.
        believed_until: when the reading becomes too old, on that clock.
        duration: seconds that the last check took; None before the first.
        stale: the last reading became too old to believe.
        subject: what the probe looks at: equal as long as its readings are about the same thing.
        held: the last raw statuses in a row, oldest first, that are all worse or all better than
            *status*, of whatever kind, and too few yet to change it.
        shown: facts that the probe shows beside the reading's until the next one.
        kept: lasting findings of earlier readings that none has taken back since.
        reason: the summary of the last unhealthy reading.
        before_reload: the status is by the probe's table before the last reload.
    """

    probe: str
    plugin: str
    terms: Terms
    reading: Reading
    status: Status
    since: datetime
    streak: int = 0
    checked_at: datetime | None = None
    measured_at: float = 0.0
    believed_until: float = 0.0
    duration: float | None = None
    stale: bool = False
    subject: object = field(default=None, repr=False)
    held: tuple[Status, ...] = ()
    shown: Mapping[str, Any] = field(default_factory=dict)
    kept: tuple[Finding, ...] = ()
    reason: str = ""
    before_reload: bool = False

    @property
    def summary(self) -> str:
        """The reading's sentence, with a mark if a reload has changed the probe's table since."""
        if not self.before_reload:
            return self.reading.summary
        is_of_before = self.reading.status is self.status
        mark = ", by" if is_of_before else "; the status is by"
        return f"{self.reading.summary}{mark} the table before the reload"

    @property
    def is_recovering(self) -> bool:
        """Tell if the last readings are better than the status, and too few yet to change it."""
        return bool(self.held) and self.held[-1] < self.status

    @property
    def lasting(self) -> tuple[Finding, ...]:
        """The findings that hold until somebody acts; each says which moment its words are of."""
        troubles = (Status.DEGRADED, Status.UNHEALTHY)
        found = (finding for finding in self.reading.findings if finding not in self.kept)
        new = [_as_of(self.checked_at, one) for one in found if one.lasting and one.status in troubles]
        worst_first = sorted((*self.kept, *new), key=lambda one: (-one.status, -one.advice))
        return tuple(worst_first[:MOST_KEPT])

    @property
    def facts(self) -> dict[str, Any]:
        """Return the facts of the reading, and those that the probe has shown since."""
        return {**self.reading.facts, **self.shown}


@dataclass(frozen=True, slots=True)
class PastReading:
    """The part of a reading that is kept once newer ones have come.

    Attributes:
        at: when it arrived.
        status: the damped status that was shown with it.
        raw_status: its own.
        duration: seconds that the check took.
    """

    at: datetime
    status: Status
    raw_status: Status
    duration: float


def damped(before: Entry, raw: Status) -> tuple[Status, tuple[Status, ...]]:
    """The status to show after *raw*, and what is held: the first reading counts at once, then a run.

    Whatever is worse counts towards worse, or two kinds of trouble in turn would never show; the mildest
    of a run is what all of it bears out. Recovery is the mirror image: the worst of what is better.
    Unknown is never better: it proves nothing, and a recovery starts over after it.
    """
    if before.checked_at is None or before.stale:
        return raw, ()
    if before.before_reload and raw is not Status.UNKNOWN:  # measured by the new table, as a first reading is
        return raw, ()
    if raw is Status.UNKNOWN and before.status is Status.UNHEALTHY:
        return before.status, ()
    worse = raw > before.status
    held = _run((*before.held, raw), before.status)
    if len(held) < (before.terms.fail_after if worse else before.terms.recover_after):
        return before.status, held
    status = min(held) if worse else max(held)
    return status, _run(held, status)


def _run(raw: tuple[Status, ...], status: Status) -> tuple[Status, ...]:
    """The end of *raw* that is all worse, or all better, than *status*."""
    worse = raw[-1] > status
    run = takewhile(lambda one: one != status and (one > status) == worse, reversed(raw))
    return tuple(run)[::-1]


def kept(before: Entry, reading: Reading) -> tuple[Finding, ...]:
    """Return the lasting findings that *reading* does not take back.

    A known finding of the same name and subject takes one back. So does its absence, unless the reading
    cannot tell about that subject. An unknown finding without a subject is about every subject.
    """
    unknown = {finding.subject for finding in reading.findings if finding.status is Status.UNKNOWN}
    told = {(one.name, one.subject) for one in reading.findings if one.status is not Status.UNKNOWN}
    known = {subject for _, subject in told}

    def is_open(finding: Finding) -> bool:
        if (finding.name, finding.subject) in told:
            return False
        if unknown & {None, finding.subject}:
            return True
        return reading.status is Status.UNKNOWN and (not unknown or finding.subject not in known)

    return tuple(filter(is_open, before.lasting))


def with_kept(reading: Reading, findings: tuple[Finding, ...], reason: str = "") -> Reading:
    """Return *reading* with the kept *findings*; its summary ends with *reason*, or else with the worst."""
    before = reason or (Reading(findings).summary if findings else "")
    if not before:
        return reading
    summary = f"{reading.summary}; before that: {before}"
    return replace(reading, findings=(*reading.findings, *findings), summary=summary)


def _as_of(moment: datetime | None, finding: Finding) -> Finding:
    """Return *finding* with the moment in its summary, since "5 s ago" does not stay true."""
    if moment is None:
        return finding
    return replace(finding, summary=f"{finding.summary} (as of {moment:%Y-%m-%d %H:%M:%S} UTC)")
