"""The verdict on the host, over all its probes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from mlopsd.entry import Entry
from mlopsd.probe import Advice, Finding, Status


@dataclass(frozen=True, slots=True)
class Verdict:
    """The host's status over all its probes, with a sentence that says why, and an advice."""

    status: Status
    since: datetime
    summary: str
    advice: Advice
    probes: Mapping[str, Status] = field(default_factory=dict)


def judged(entries: Iterable[Entry], now: datetime, before: Verdict | None) -> Verdict:
    """Return the verdict over *entries*. If the status is that of *before*, keep its *since* too."""
    counted = [(_counted(entry), entry) for entry in entries]
    critical = any(entry.terms.critical for _, entry in counted)
    status = max(status for status, _ in counted) if critical else Status.UNKNOWN
    return Verdict(
        status=status,
        since=before.since if before is not None and before.status == status else now,
        summary=_summary(status, counted),
        advice=_advice(status, counted) if critical else Advice.FIX_CONFIG,
        probes={entry.probe: entry.status for _, entry in counted},
    )


def _counted(entry: Entry) -> Status:
    return entry.status if entry.terms.critical else min(entry.status, Status.DEGRADED)


def _summary(status: Status, counted: Sequence[tuple[Status, Entry]]) -> str:
    if not counted:
        return "no probe is configured; add a table [probes.system] to the configuration"
    problems = sorted((pair for pair in counted if pair[0] != Status.HEALTHY), key=lambda pair: -pair[0])
    if problems:
        return "; ".join(f"{entry.probe} {entry.status}: {entry.summary}" for _, entry in problems)
    if status == Status.UNKNOWN:
        return "no critical probe is configured; set critical = true in one table"
    return f"{len(counted)} of {len(counted)} probes healthy"


def _advice(status: Status, counted: Sequence[tuple[Status, Entry]]) -> Advice:
    """Return the most drastic advice among the findings that make the verdict *status*.

    While a status holds that no finding has any more, what its probes still find decides.
    """
    if status == Status.HEALTHY:
        return Advice.NONE
    holding = [entry for of_entry, entry in counted if of_entry == status]
    deciding = [
        finding
        for of_entry, entry in counted
        for finding in entry.reading.findings
        if _status_of(finding, of_entry, entry) == status
    ] or [finding for entry in holding for finding in entry.reading.findings if finding.status]
    is_recovering = any(entry.is_recovering for entry in holding)
    nothing_left = Advice.WATCH if is_recovering else Advice.NONE
    return max((finding.advice for finding in deciding), default=nothing_left)


def _status_of(finding: Finding, of_entry: Status, entry: Entry) -> Status:
    """Return what *finding* counts: as much as its entry at most, and as much if it lasts from before."""
    return of_entry if finding in entry.kept else min(finding.status, of_entry)
