"""The latest reading of every probe, when each will be too old to believe, and the verdict over them."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import takewhile
from typing import Any

from mlopsd.probe import Advice, Finding, Reading, Status

Change = Callable[["Entry", Status], None]
VerdictChange = Callable[["Verdict", Status], None]

PAST_READINGS = 120  # of each probe: half an hour at an interval of 15 s, in about 17 kB


@dataclass(frozen=True, slots=True)
class Terms:
    """How the readings of one probe are to be believed; from its table in the configuration.

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
        reading: what was last found out, whatever the damping makes of it.
        status: the damped status: what is shown, scraped and counted.
        streak: how many readings in a row had ``reading.status``.
        since: when *status* last changed.
        checked_at: when the last reading arrived; None before the first.
        measured_at: the same on the board's steady clock, seconds.
        duration: seconds that the last check took; None before the first.
        stale: the last reading became too old to believe.
        subject: what the probe looks at: equal as long as its readings are about the same thing.
        held: the last raw statuses in a row, oldest first, that are all worse or all better than
            *status*, of whatever kind, and too few yet to change it.
        shown: facts that the probe shows beside the reading's until the next one.
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
    duration: float | None = None
    stale: bool = False
    subject: object = field(default=None, repr=False)
    held: tuple[Status, ...] = ()
    shown: Mapping[str, Any] = field(default_factory=dict)

    @property
    def facts(self) -> dict[str, Any]:
        """What the reading says besides its findings, and what the probe has shown since."""
        return {**self.reading.facts, **self.shown}


@dataclass(frozen=True, slots=True)
class PastReading:
    """What is kept of a reading once newer ones have come.

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


@dataclass(frozen=True, slots=True)
class Verdict:
    """The host's status over all its probes, the sentence that says why, and what should be done."""

    status: Status
    since: datetime
    summary: str
    advice: Advice
    probes: Mapping[str, Status] = field(default_factory=dict)


class Board:
    """Holds one `Entry` a probe; written on the event loop only, hence atomic without a lock.

    *on_change* is told of each change of a probe's status and *on_verdict* of each change of the
    host's, with the status before. *clock* is a steady clock in seconds; *now* the time of day.
    """

    def __init__(
        self,
        *,
        on_change: Change = lambda _entry, _before: None,
        on_verdict: VerdictChange = lambda _verdict, _before: None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._on_change = on_change
        self._on_verdict = on_verdict
        self.clock = clock
        self.now = now
        self.version = 0  # grows with every write, so that a renderer knows what it has seen
        self.started = now()
        self._entries: dict[str, Entry] = {}
        self._past: dict[str, deque[PastReading]] = {}
        self._expiries: dict[str, asyncio.TimerHandle] = {}
        self._verdict = _judge(self._entries, self.started, None)

    @property
    def verdict(self) -> Verdict:
        """The host's verdict as of the last write."""
        return self._verdict

    def __getitem__(self, probe: str) -> Entry:
        return self._entries[probe]

    def __contains__(self, probe: object) -> bool:
        return probe in self._entries

    def __iter__(self) -> Iterator[Entry]:
        return iter(list(self._entries.values()))

    def __len__(self) -> int:
        return len(self._entries)

    def age(self, entry: Entry) -> float | None:
        """Seconds since *entry*'s reading, on the steady clock; None before the first."""
        return None if entry.checked_at is None else self.clock() - entry.measured_at

    def past(self, probe: str) -> tuple[PastReading, ...]:
        """The last `PAST_READINGS` readings of *probe*, the oldest first, without their findings."""
        return tuple(self._past[probe])

    def enrol(self, probe: str, plugin: str, terms: Terms, subject: object = None) -> None:
        """Give *probe* a place: unknown until its first reading.

        New terms keep what is known as long as *plugin* and *subject* (what it looks at: its class and
        its options) are equal; readings of something else are no evidence, nor are they without a subject.
        """
        known = self._entries.get(probe)
        if known is not None and _is_about(known, plugin, subject):
            self._put(replace(known, terms=terms))
            return
        self._past[probe] = deque(maxlen=PAST_READINGS)
        unseen = Reading(summary="not checked yet")
        entry = Entry(probe, plugin, terms, unseen, Status.UNKNOWN, self.now(), subject=subject)
        self._put(entry, None if known is None else known.status)

    def forget(self, probe: str) -> None:
        """Take *probe* off the board."""
        self._entries.pop(probe, None)
        self._past.pop(probe, None)
        self._cancel_expiry(probe)
        self._written()

    def record(self, probe: str, reading: Reading, duration: float) -> Entry:
        """Write down *reading*, damp its status, and start the time for which it is believed."""
        before = self._entries[probe]
        streak = before.streak + 1 if reading.status == before.reading.status and not before.stale else 1
        damped, held = _damp(before, reading.status)
        now = self.now()
        entry = replace(
            before,
            reading=reading,
            status=damped,
            since=before.since if damped == before.status else now,
            streak=streak,
            checked_at=now,
            measured_at=self.clock(),
            duration=duration,
            stale=False,
            shown={},
            held=held,
        )
        self._past[probe].append(PastReading(now, damped, reading.status, duration))
        self._put(entry, before.status)
        return entry

    def show(self, probe: str, facts: Mapping[str, Any]) -> None:
        """Show *facts* beside the last reading of *probe*, instead of those shown before, until the next.

        Nothing if the probe has left the board.
        """
        if (entry := self._entries.get(probe)) is not None:
            self._entries[probe] = replace(entry, shown=dict(facts))

    def close(self) -> None:
        """Stop the timers."""
        for probe in list(self._expiries):
            self._cancel_expiry(probe)

    def _put(self, entry: Entry, before: Status | None = None) -> None:
        self._entries[entry.probe] = entry
        self._expire_later(entry)
        if before is not None and entry.status != before:
            self._on_change(entry, before)
        self._written()

    def _expire_later(self, entry: Entry) -> None:
        self._cancel_expiry(entry.probe)
        if entry.checked_at is not None and not entry.stale:
            left = entry.measured_at + entry.terms.believed - self.clock()
            loop = asyncio.get_running_loop()
            self._expiries[entry.probe] = loop.call_later(max(left, 0), self._expire, entry.probe)

    def _cancel_expiry(self, probe: str) -> None:
        if timer := self._expiries.pop(probe, None):
            timer.cancel()

    def _expire(self, probe: str) -> None:
        before = self._entries[probe]
        interval = before.terms.interval
        summary = f"no reading for {self.age(before) or 0:.0f} s, expected every {interval:g} s"
        finding = Finding("stale", Status.UNKNOWN, summary, advice=Advice.WATCH)
        entry = replace(
            before,
            reading=Reading(findings=[finding]),
            status=Status.UNKNOWN,
            since=before.since if before.status == Status.UNKNOWN else self.now(),
            streak=0,
            stale=True,
            shown={},
            held=(),
        )
        self._put(entry, before.status)

    def _written(self) -> None:
        self.version += 1
        before = self._verdict
        self._verdict = _judge(self._entries, self.now(), before)
        if self._verdict.status != before.status:
            self._on_verdict(self._verdict, before.status)


def _is_about(entry: Entry, plugin: str, subject: object) -> bool:
    return subject is not None and (entry.plugin, entry.subject) == (plugin, subject)


def _damp(before: Entry, raw: Status) -> tuple[Status, tuple[Status, ...]]:
    """The status to show after *raw*, and what is held: the first reading counts at once, then a run.

    Whatever is worse counts towards worse, or two kinds of trouble in turn would never show; the mildest
    of a run is what all of it bears out. Recovery is the mirror image: the worst of what is better.
    """
    if before.checked_at is None or before.stale:
        return raw, ()
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


def _judge(entries: Mapping[str, Entry], now: datetime, before: Verdict | None) -> Verdict:
    counted = [(_counted(entry), entry) for entry in entries.values()]
    critical = any(entry.terms.critical for _, entry in counted)
    status = max(status for status, _ in counted) if critical else Status.UNKNOWN
    return Verdict(
        status=status,
        since=before.since if before is not None and before.status == status else now,
        summary=_summary(status, counted),
        advice=_advice(entries) if critical else Advice.FIX_CONFIG,
        probes={entry.probe: entry.status for entry in entries.values()},
    )


def _counted(entry: Entry) -> Status:
    return entry.status if entry.terms.critical else min(entry.status, Status.DEGRADED)


def _summary(status: Status, counted: list[tuple[Status, Entry]]) -> str:
    if not counted:
        return "no probe is configured; add a table [probes.system] to the configuration"
    troubles = sorted((pair for pair in counted if pair[0] != Status.HEALTHY), key=lambda pair: -pair[0])
    if troubles:
        said = [f"{entry.probe} {entry.status}: {_why(entry)}" for _, entry in troubles]
        return "; ".join(said)
    if status == Status.UNKNOWN:
        return "no critical probe is configured; take critical = false out of one"
    return f"{len(counted)} of {len(counted)} probes healthy"


def _why(entry: Entry) -> str:
    if entry.reading.status >= entry.status:
        return entry.reading.summary
    return f"recovering, {len(entry.held)} of {entry.terms.recover_after} readings better"


def _advice(entries: Mapping[str, Entry]) -> Advice:
    """The most drastic advice among the findings of the probes that are not well."""
    unwell = (entry for entry in entries.values() if entry.status != Status.HEALTHY)
    findings = (finding for entry in unwell for finding in entry.reading.findings)
    return max((finding.advice for finding in findings), default=Advice.NONE)


class Readings(Mapping[str, Reading]):
    """The latest reading of every probe, as probes may see it: live and read-only."""

    def __init__(self, board: Board) -> None:
        self._board = board

    def __getitem__(self, probe: str) -> Reading:
        return self._board[probe].reading

    def __iter__(self) -> Iterator[str]:
        return (entry.probe for entry in self._board)

    def __len__(self) -> int:
        return len(self._board)
