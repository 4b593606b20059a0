"""The board: the latest reading of every probe, its expiry, and the verdict over all."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from mlopsd.entry import Entry, PastReading, Terms, damped, findings_since, kept, with_kept
from mlopsd.probe import Advice, Finding, Reading, Status
from mlopsd.verdict import Verdict, judged

Change = Callable[[Entry, Entry], None]
VerdictChange = Callable[[Verdict, Verdict], None]

PAST_READINGS = 120  # per probe: half an hour at an interval of 15 s, about 17 kB


class Board:
    """One `Entry` per probe. Only the event loop writes, so no lock is needed.

    The board calls *on_change* after each reading of a probe and when one expires, with the entry before.
    It calls *on_verdict* when the host's status or advice changes, with the verdict before. *clock* is a
    steady clock in seconds, *now* the time of day in UTC.
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
        self.version = 0  # grows with every write, so that a renderer can tell whether its cache is valid
        self.started = now()
        self._entries: dict[str, Entry] = {}
        self._past: dict[str, deque[PastReading]] = {}
        self._expiries: dict[str, asyncio.TimerHandle] = {}
        self._verdict = judged((), self.started, None)

    @property
    def verdict(self) -> Verdict:
        """Return the host's verdict as of the last write."""
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
        """Return the seconds since *entry*'s reading, on the steady clock; None before the first."""
        return None if entry.checked_at is None else self.clock() - entry.measured_at

    def past(self, probe: str) -> tuple[PastReading, ...]:
        """Return the last `PAST_READINGS` readings of *probe*, oldest first, without their findings."""
        return tuple(self._past[probe])

    def enrol(self, probe: str, plugin: str, terms: Terms, subject: object = None) -> None:
        """Add *probe*, with the status unknown until its first reading.

        If *plugin* and *subject* (what it checks) are as before, the last reading stays, with a mark, until
        the next one or until it expires. A reading of another subject, or without a subject, is dropped.
        """
        known = self._entries.get(probe)
        if known is not None and _is_about(known, plugin, subject):
            self.keep(probe, terms)
            return
        self._past[probe] = deque(maxlen=PAST_READINGS)
        unseen = Reading(summary="not checked yet")
        entry = Entry(probe, plugin, terms, unseen, Status.UNKNOWN, self.now(), subject=subject)
        self._put(entry, known)

    def keep(self, probe: str, terms: Terms) -> None:
        """Keep the last reading of *probe* under a changed table, marked until a reading can tell."""
        known = self._entries[probe]
        is_seen = known.checked_at is not None and not known.stale
        self._put(replace(known, terms=terms, before_reload=is_seen))

    def retime(self, probe: str, terms: Terms) -> None:
        """Keep the last reading of *probe*, of which only the *terms* have changed.

        The last reading came under the old terms. So a shorter expiry counts from now, but never beyond
        the old expiry.
        """
        known = self._entries[probe]
        until = max(
            known.measured_at + terms.believed, min(known.believed_until, self.clock() + terms.believed)
        )
        self._put(replace(known, terms=terms, believed_until=until))

    def end_lasting(self, probe: str) -> None:
        """End the lasting findings of *probe*, because somebody has acted: the next reading decides alone."""
        if (known := self._entries.get(probe)) is None:
            return
        findings = tuple(replace(finding, lasting=False) for finding in known.reading.findings)
        self._put(replace(known, reading=replace(known.reading, findings=findings), kept=()))

    def forget(self, probe: str) -> None:
        """Remove *probe* from the board."""
        self._entries.pop(probe, None)
        self._past.pop(probe, None)
        self._cancel_expiry(probe)
        self._written()

    def record(self, probe: str, reading: Reading, duration: float) -> Entry:
        """Record *reading*, damp its status, restart its expiry, and return the new entry."""
        before = self._entries[probe]
        streak = before.streak + 1 if reading.status == before.reading.status and not before.stale else 1
        lasting = kept(before, reading)
        worst = max([reading.status, *(finding.status for finding in lasting)])
        status, held = damped(before, worst)
        is_of_before = before.before_reload and reading.status is Status.UNKNOWN is not status
        now, measured_at = self.now(), self.clock()
        shown = with_kept(reading, lasting, before.reason if status > worst == Status.UNKNOWN else "")
        entry = replace(
            before,
            reading=shown,
            status=status,
            since=before.since if status == before.status else now,
            streak=streak,
            checked_at=now,
            measured_at=measured_at,
            believed_until=measured_at + before.terms.believed,
            duration=duration,
            stale=False,
            shown={},
            held=held,
            kept=lasting,
            reason=reading.summary if reading.status >= status else before.reason,
            before_reload=is_of_before,
            findings_since=findings_since(before, shown, now),
        )
        self._past[probe].append(PastReading(now, status, reading.status, duration))
        self._put(entry, before)
        return entry

    def show(self, probe: str, facts: Mapping[str, Any]) -> None:
        """Show *facts* with the last reading of *probe* until the next reading.

        They replace the facts that were shown before. Does nothing if the probe has left the board.
        """
        if (entry := self._entries.get(probe)) is not None:
            self._entries[probe] = replace(entry, shown=dict(facts))

    def close(self) -> None:
        """Stop the timers."""
        for probe in list(self._expiries):
            self._cancel_expiry(probe)

    def _put(self, entry: Entry, before: Entry | None = None) -> None:
        self._entries[entry.probe] = entry
        self._expire_later(entry)
        if before is not None:
            self._on_change(entry, before)
        self._written()

    def _expire_later(self, entry: Entry) -> None:
        self._cancel_expiry(entry.probe)
        if entry.checked_at is not None and not entry.stale:
            left = entry.believed_until - self.clock()
            loop = asyncio.get_running_loop()
            self._expiries[entry.probe] = loop.call_later(max(left, 0), self._expire, entry.probe)

    def _cancel_expiry(self, probe: str) -> None:
        if timer := self._expiries.pop(probe, None):
            timer.cancel()

    def _expire(self, probe: str) -> None:
        before = self._entries[probe]
        interval = before.terms.interval
        summary = (
            f"no reading for {self.age(before) or 0:.0f} s, expected every {interval:g} s; restart mlopsd"
        )
        reading = Reading(findings=[Finding("stale", Status.UNKNOWN, summary, advice=Advice.RESTART_APP)])
        lasting = kept(before, reading)
        shown, now = with_kept(reading, lasting), self.now()
        entry = replace(
            before,
            reading=shown,
            status=Status.UNKNOWN,
            since=before.since if before.status == Status.UNKNOWN else now,
            streak=0,
            stale=True,
            shown={},
            held=(),
            kept=lasting,
            before_reload=False,
            findings_since=findings_since(before, shown, now),
        )
        self._put(entry, before)

    def _written(self) -> None:
        self.version += 1
        before = self._verdict
        self._verdict = judged(self._entries.values(), self.now(), before)
        is_other_advice = bool(before.probes) and self._verdict.advice is not before.advice
        if self._verdict.status != before.status or is_other_advice:
            self._on_verdict(self._verdict, before)


def _is_about(entry: Entry, plugin: str, subject: object) -> bool:
    return subject is not None and (entry.plugin, entry.subject) == (plugin, subject)


class Readings(Mapping[str, Reading]):
    """The latest reading of every probe, live and read-only, for the probes themselves."""

    def __init__(self, board: Board) -> None:
        self._board = board

    def __getitem__(self, probe: str) -> Reading:
        return self._board[probe].reading

    def __iter__(self) -> Iterator[str]:
        return (entry.probe for entry in self._board)

    def __len__(self) -> int:
        return len(self._board)
