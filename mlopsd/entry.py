"""One probe on the board: its last readings and its damped status."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import takewhile
from typing import Any

from mlopsd.probe import Finding, Reading, Status

FindingKey = tuple[str, str | None, Status]  # name, subject, status
MOST_KEPT = 100  # lasting findings of earlier readings; the page and the metrics have the same limit


@dataclass(frozen=True, slots=True)
class Terms:
    """The timing and weight of one probe, from its configuration table.

    Attributes:
        interval: The seconds between two checks.
        timeout: The seconds that one check may take.
        fail_after: The consecutive readings, all worse than the status, before it worsens.
        recover_after: The consecutive readings, all better than the status, before it recovers.
        critical: True if the probe decides the verdict; otherwise it makes it degraded at most.
    """

    interval: float
    timeout: float
    fail_after: int = 1
    recover_after: int = 1
    critical: bool = True

    @property
    def believed(self) -> float:
        """Return the seconds after which a reading expires: three intervals and the timeout."""
        return 3 * self.interval + self.timeout


@dataclass(frozen=True, slots=True)
class Entry:
    """The state of one probe on the board.

    Attributes:
        probe: The probe's name.
        plugin: The name of its entry point.
        terms: Its timing and weight.
        reading: The last reading, with its raw status. Its findings include *kept*.
        status: The damped status, which is shown, scraped and counted.
        since: The time when *status* last changed.
        streak: The number of consecutive readings with ``reading.status``.
        checked_at: The time of the last reading; None before the first.
        measured_at: The same on the board's steady clock, in seconds.
        believed_until: When the reading expires, on that clock, in seconds.
        duration: The seconds that the last check took; None before the first.
        stale: True if the last reading has expired.
        subject: What the probe checks: equal as long as its readings are comparable.
        held: The last consecutive raw statuses, oldest first, that are all worse or all better than
            *status* and too few yet to change it.
        shown: Facts that the probe shows with the reading until the next one.
        kept: Lasting findings of earlier readings that no later reading has ended.
        reason: The summary of the last reading that was as bad as *status*, or worse; "" while healthy.
        before_reload: True if *status* comes from the probe's table before the last reload.
        findings_since: The time when each finding of *reading* appeared with its status.
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
    findings_since: Mapping[FindingKey, datetime] = field(default_factory=dict)

    def since_of(self, finding: Finding) -> datetime:
        """Return the time when *finding* of the reading appeared with its status."""
        return self.findings_since[_key(finding)]

    @property
    def summary(self) -> str:
        """Return the reading's summary, with what the damping holds back or a reload has changed."""
        if not self.before_reload:
            return self._damped_summary
        is_of_before = self.reading.status is self.status
        mark = ", by" if is_of_before else "; the status is by"
        return f"{self.reading.summary}{mark} the table before the reload"

    @property
    def _damped_summary(self) -> str:
        """Return the summary of what holds the status, and how many readings differ from it."""
        if self.is_recovering:
            count = f"{len(self.held)} of {self.terms.recover_after}"
            before = f"; before that: {self.reason}" if self.reason else ""
            return f"recovering, {count} readings better{before}"
        if self.held:
            return f"{self.reading.summary} ({len(self.held)} of {self.terms.fail_after} readings worse)"
        return self.reading.summary

    @property
    def is_recovering(self) -> bool:
        """Return whether the last readings are better than the status and too few yet to change it."""
        return bool(self.held) and self.held[-1] < self.status

    @property
    def lasting(self) -> tuple[Finding, ...]:
        """Return the findings that stay until somebody acts; each summary has the time of its reading."""
        new = [
            _as_of(self.checked_at, finding)
            for finding in self.reading.findings
            if finding not in self.kept
            and finding.lasting
            and finding.status in (Status.DEGRADED, Status.UNHEALTHY)
        ]
        worst_first = sorted((*self.kept, *new), key=lambda finding: (-finding.status, -finding.advice))
        return tuple(worst_first[:MOST_KEPT])

    @property
    def facts(self) -> dict[str, Any]:
        """Return the facts of the reading, and those that the probe has shown since."""
        return {**self.reading.facts, **self.shown}


@dataclass(frozen=True, slots=True)
class PastReading:
    """The part of a reading that the history keeps.

    Attributes:
        at: The time when it arrived.
        status: The damped status that was shown with it.
        raw_status: The reading's own status.
        duration: The seconds that the check took.
    """

    at: datetime
    status: Status
    raw_status: Status
    duration: float


def damped(before: Entry, raw: Status) -> tuple[Status, tuple[Status, ...]]:
    """Return the status after the raw status *raw*, and the run that is held.

    The first reading counts at once. After that, the status changes only after a run of consecutive
    readings that are all worse, or all better, than the status.

    - Every worse status counts towards worsening. Otherwise two problems in turn would never show.
      The new status is the mildest of the run, since every reading of the run supports it.
    - Recovery mirrors that: the new status is the worst of the run.
    - Unknown is never better. It proves nothing, and a recovery starts over after it.
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
    """Return the end of *raw* that is all worse, or all better, than *status*."""
    worse = raw[-1] > status
    run = takewhile(lambda other: other != status and (other > status) == worse, reversed(raw))
    return tuple(run)[::-1]


class Judged:
    """The findings that *reading* can tell about.

    A finding of the same name and subject, with a known status, tells about one. So does its absence, unless
    the reading has an unknown finding of that subject. An unknown finding without a subject is about every
    subject.
    """

    def __init__(self, reading: Reading) -> None:
        self._is_unknown = reading.status is Status.UNKNOWN
        self._unknown = {one.subject for one in reading.findings if one.status is Status.UNKNOWN}
        self._found = {
            (one.name, one.subject) for one in reading.findings if one.status is not Status.UNKNOWN
        }
        self._subjects = {subject for _, subject in self._found}

    def __contains__(self, key: tuple[str, str | None]) -> bool:
        """Return whether the reading can tell about the finding with this name and subject."""
        if key in self._found:
            return True
        subject = key[1]
        if self._unknown & {None, subject}:
            return False
        return not self._is_unknown or bool(self._unknown and subject in self._subjects)


def kept(before: Entry, reading: Reading) -> tuple[Finding, ...]:
    """Return the lasting findings that *reading* does not end: those that it cannot tell about."""
    judged = Judged(reading)
    return tuple(finding for finding in before.lasting if (finding.name, finding.subject) not in judged)


def with_kept(reading: Reading, findings: tuple[Finding, ...], reason: str = "") -> Reading:
    """Return *reading* with *findings*; its summary ends with *reason* or that of the worst one."""
    before = reason or (Reading(findings).summary if findings else "")
    if not before:
        return reading
    summary = f"{reading.summary}; before that: {before}"
    return replace(reading, findings=(*reading.findings, *findings), summary=summary)


def findings_since(before: Entry, reading: Reading, now: datetime) -> dict[FindingKey, datetime]:
    """Return since when each finding of *reading* stands: *now*, unless the reading *before* had it too."""
    return {_key(one): before.findings_since.get(_key(one), now) for one in reading.findings}


def _key(finding: Finding) -> FindingKey:
    return finding.name, finding.subject, finding.status


def _as_of(moment: datetime | None, finding: Finding) -> Finding:
    """Return *finding* with the time in its summary, since "5 s ago" does not stay true."""
    if moment is None:
        return finding
    return replace(finding, summary=f"{finding.summary} (as of {moment:%Y-%m-%d %H:%M:%S} UTC)")
