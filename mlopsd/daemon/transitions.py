"""Log lines for each change of a finding, of a probe's status, and of the host's status or advice."""

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from mlopsd.entry import Entry, Judged
from mlopsd.probe import Advice, Finding, Status
from mlopsd.verdict import Verdict

MOST_CHANGES = 6  # of one finding within `WINDOW`; then it flaps, and one line says so
WINDOW = 600.0  # seconds; a finding without a change for so long does not flap any more
MOST_LINES = 20  # about the findings of one reading; one more line counts the rest
MOST_LINES_OF_PROBE = 100  # about the findings of one probe within `WINDOW`
MOST_FINDINGS = 1_000  # of one probe, as in one reading; as many again while a reading replaces them
Key = tuple[str, str | None]  # the name and subject of a finding
log = logging.getLogger("mlopsd.daemon")


@dataclass(frozen=True, slots=True)
class _State:
    """The part of a finding that is worth a line when it changes."""

    status: Status
    advice: Advice


@dataclass(slots=True)
class _Known:
    """A finding that is not healthy, or was until a short time ago.

    Attributes:
        state: Its last state; None if it has ended.
        logged: The state that the log has last; None if the log has no finding, or its end.
        appeared: The time when it appeared, in seconds of the clock.
        changes: The times of its last changes.
        is_flapping: True while its changes are not logged.
    """

    state: _State | None = None
    logged: _State | None = None
    appeared: float = 0.0
    changes: deque[float] = field(default_factory=lambda: deque(maxlen=MOST_CHANGES))
    is_flapping: bool = False


@dataclass(slots=True)
class _Findings:
    """The findings of one probe.

    Attributes:
        known: Those that are not healthy, or were until a short time ago.
        times: The times of the last lines about them.
        unlogged: The changes without a line of their own since the last count of them.
        counted_at: The time of that count.
    """

    known: dict[Key, _Known] = field(default_factory=dict)
    times: deque[float] = field(default_factory=lambda: deque(maxlen=MOST_LINES_OF_PROBE))
    unlogged: int = 0
    counted_at: float = -math.inf

    def has_room(self, now: float) -> bool:
        """Return whether a further line may be logged now."""
        return len(self.times) < MOST_LINES_OF_PROBE or now - self.times[0] >= WINDOW

    def forget(self, now: float) -> None:
        """Forget the findings that ended long ago, and the oldest ended ones beyond `MOST_FINDINGS`."""
        ended = [key for key, one in self.known.items() if one.state is None]
        ended.sort(key=lambda key: self.known[key].changes[-1])
        surplus = len(self.known) - MOST_FINDINGS
        for number, key in enumerate(ended):
            if number < surplus or _is_quiet(self.known[key], now):
                del self.known[key]


class Transitions:
    """The log of changes. *clock* is a steady clock in seconds.

    The text of a finding is no change: its numbers are others at every reading.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._findings: dict[str, _Findings] = {}

    def recorded(self, entry: Entry, before: Entry) -> None:
        """Log the changes between the entry *before* and *entry*."""
        if entry.checked_at is None:  # a new probe under this name; the findings were of another one
            self._findings.pop(entry.probe, None)
        else:
            self._log_findings(entry)
        is_news = before.checked_at is None is not entry.checked_at and entry.status is not Status.HEALTHY
        if entry.status is not before.status or is_news:
            fields = {"before": str(before.status), "summary": entry.reading.summary}
            extra = {"probe": entry.probe, "status": str(entry.status), **fields, "history": True}
            level = logging.WARNING if is_news else _level(entry.status, before.status)
            log.log(level, "probe status changed", extra=extra)

    def verdict_changed(self, verdict: Verdict, before: Verdict) -> None:
        """Log that the host's status or advice has changed."""
        extra = {
            "status": str(verdict.status),
            "before": str(before.status),
            "summary": verdict.summary,
            "advice": str(verdict.advice),
            "history": True,
        }
        log.log(_level(verdict.status, before.status), "health changed", extra=extra)

    def _log_findings(self, entry: Entry) -> None:
        findings, now = self._findings.setdefault(entry.probe, _Findings()), self._clock()
        lines = 0
        for key, finding in _found(entry, findings.known):
            known = findings.known.setdefault(key, _Known())
            if not _follow(known, finding, now):
                continue
            if lines < MOST_LINES and findings.has_room(now):
                _log_change(entry.probe, key, finding, known, now)
                findings.times.append(now)
                known.logged = known.state
                lines += 1
            else:
                findings.unlogged += 1
        self._count_unlogged(entry.probe, findings, now)
        findings.forget(now)

    def _count_unlogged(self, probe: str, findings: _Findings, now: float) -> None:
        """Log the number of changes without a line; once in a `WINDOW` while the probe has no room."""
        if findings.unlogged and (findings.has_room(now) or now - findings.counted_at >= WINDOW):
            extra = {"probe": probe, "count": findings.unlogged, "history": True}
            log.warning("more findings changed", extra=extra)
            findings.times.append(now)
            findings.unlogged, findings.counted_at = 0, now


def _follow(known: _Known, finding: Finding | None, now: float) -> bool:
    """Follow one finding, and return whether its change is worth a line."""
    state = None if finding is None else _State(finding.status, finding.advice)
    if changed := state != known.state:
        known.appeared = now if known.state is None else known.appeared
        known.state = state
        known.changes.append(now)
    if known.is_flapping and _is_quiet(known, now):
        known.is_flapping = False
    elif known.is_flapping or not changed:
        return False
    elif len(known.changes) == MOST_CHANGES and now - known.changes[0] < WINDOW:
        known.is_flapping = True
    return state != known.logged or known.is_flapping


def _found(entry: Entry, known: dict[Key, _Known]) -> Iterator[tuple[Key, Finding | None]]:
    """Yield each finding that is not healthy, and None for those that the reading can tell are over."""
    unwell = {
        (one.name, one.subject): one for one in entry.reading.findings if one.status is not Status.HEALTHY
    }
    for key, finding in unwell.items():
        if key in known or len(known) < 2 * MOST_FINDINGS:
            yield key, finding
    if known and not entry.stale:
        judged = Judged(entry.reading)
        yield from ((key, None) for key in list(known) if key not in unwell and key in judged)


def _is_quiet(known: _Known, now: float) -> bool:
    return not known.changes or now - known.changes[-1] >= WINDOW


def _log_change(probe: str, key: Key, finding: Finding | None, known: _Known, now: float) -> None:
    name, subject = key
    extra: dict[str, object] = {"probe": probe, "finding": name, "history": True}
    if subject is not None:
        extra["subject"] = subject
    if known.is_flapping:
        extra |= {"changes": len(known.changes), "seconds": round(now - known.changes[0])}
        log.warning("finding flaps", extra=extra)
    elif finding is None:
        log.info("finding ended", extra=extra | {"seconds": round(now - known.appeared)})
    else:
        level, event = _change(finding, known.logged)
        if known.logged is not None:
            extra["before"] = str(known.logged.status)
        described = {"status": str(finding.status), "advice": str(finding.advice), "summary": finding.summary}
        log.log(level, event, extra=extra | described)


def _change(finding: Finding, before: _State | None) -> tuple[int, str]:
    if before is None:
        return logging.WARNING, "finding appeared"
    if finding.status > before.status:
        return logging.WARNING, "finding worsened"
    if finding.status < before.status:
        return logging.INFO, "finding improved"
    return logging.INFO, "advice changed"


def _level(status: Status, before: Status) -> int:
    return logging.WARNING if status > before else logging.INFO
