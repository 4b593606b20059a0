"""The board's entries as JSON. Each is rendered once and cached until it changes, except for its age."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from mlopsd.failures import why
from mlopsd.format import format_time
from mlopsd.probe import Finding, ReloadRefused, Status
from mlopsd.web.api.schemas import FindingAnswer, NumberAnswer, ReloadState, ReloadWord
from mlopsd.web.jsonable import dumps, jsonable

if TYPE_CHECKING:
    from mlopsd.board import Board
    from mlopsd.entry import Entry
    from mlopsd.watch import ProbeReload


@dataclass(frozen=True, slots=True)
class CachedJson:
    """The JSON of one entry, split at the place of its age."""

    entry: Entry
    reload: ProbeReload | None
    running: bool
    before_age: bytes
    after_age: bytes

    def is_of(self, entry: Entry, reload: ProbeReload | None) -> bool:
        """Return whether this is the JSON of *entry*; entries are replaced, never changed."""
        return self.entry is entry and self.reload is reload and self.running == is_running(reload)


class ReadingDocuments:
    """The board's entries as JSON.

    *reload_of* returns the last reload of a probe by its name, *numbers_of* the numbers of an entry.
    """

    def __init__(
        self,
        board: Board,
        reload_of: Callable[[str], ProbeReload | None],
        numbers_of: Callable[[Entry], list[NumberAnswer]] = lambda _entry: [],
    ) -> None:
        self._board = board
        self._reload_of = reload_of
        self._numbers_of = numbers_of
        self._written: dict[str, CachedJson] = {}

    def one(self, entry: Entry) -> bytes:
        """Return *entry* as a `ReadingAnswer`."""
        written = self._current(entry)
        age = self._board.age(entry)
        if age is None:
            return written.before_age + written.after_age
        return b'%s, "age_seconds": %.3f%s' % (written.before_age, max(age, 0), written.after_age)

    def detailed(self, host: str, version: str) -> bytes:
        """Return the verdict and all entries as a `DetailedAnswer` of mlopsd *version* on *host*."""
        verdict = self._board.verdict
        about = {
            "status": str(verdict.status),
            "since": format_time(verdict.since),
            "summary": verdict.summary,
            "advice": str(verdict.advice),
            "host": host,
            "version": version,
        }
        return b'%s, "probes": %s}\n' % (dumps(jsonable(about))[:-1], self._all())

    def _all(self) -> bytes:
        """Return all entries as one object, by the probe's name."""
        entries = list(self._board)
        for gone in self._written.keys() - {entry.probe for entry in entries}:
            del self._written[gone]
        return b"{" + b", ".join(dumps(entry.probe) + b": " + self.one(entry) for entry in entries) + b"}"

    def _current(self, entry: Entry) -> CachedJson:
        reload = self._reload_of(entry.probe)
        written = self._written.get(entry.probe)
        if written is None or not written.is_of(entry, reload):
            written = self._written[entry.probe] = _write(entry, reload, self._numbers_of(entry))
        return written


def _write(entry: Entry, reload: ProbeReload | None, numbers: list[NumberAnswer]) -> CachedJson:
    before = dumps(jsonable(_before_age(entry)))[:-1]
    after = b", " + dumps(jsonable(_after_age(entry, reload, numbers)))[1:]
    return CachedJson(entry, reload, is_running(reload), before, after)


def _before_age(entry: Entry) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "probe": entry.probe,
        "status": str(entry.status),
        "summary": entry.summary,
        "since": format_time(entry.since),
    }
    if entry.before_reload:
        answer["before_reload"] = True
    if entry.checked_at is not None:
        answer["checked_at"] = format_time(entry.checked_at)
    return answer


def _after_age(entry: Entry, reload: ProbeReload | None, numbers: list[NumberAnswer]) -> dict[str, Any]:
    answer: dict[str, Any] = {}
    if entry.duration is not None:
        answer["duration_seconds"] = round(entry.duration, 6)
    answer["interval_seconds"] = entry.terms.interval
    if entry.checked_at is not None:
        answer |= {"raw_status": str(entry.reading.status), "raw_count": entry.streak}
    answer["findings"] = [
        finding_answer(finding, entry.since_of(finding)) for finding in entry.reading.findings
    ]
    if numbers:
        answer["numbers"] = numbers
    answer["facts"] = entry.facts
    if reload is not None:
        answer["reload"] = reload_state(reload)
    return answer


def finding_answer(finding: Finding, since: datetime) -> FindingAnswer:
    """Return *finding*, which stands since *since*, with the keys that have a value.

    An invalid number is left out.
    """
    given: dict[str, Any] = {
        "name": finding.name,
        "subject": finding.subject,
        "status": str(finding.status),
        "since": format_time(since),
        "observed": jsonable(finding.observed),
        "unit": finding.unit,
        "limit": jsonable(finding.limit),
        "summary": finding.summary,
        "advice": str(finding.advice),
        "lasting": True if finding.lasting and finding.status != Status.HEALTHY else None,
    }
    return {key: value for key, value in given.items() if value is not None}  # type: ignore[return-value]


def reload_state(reload: ProbeReload) -> ReloadState:
    """Return the state of *reload*."""
    started_at = format_time(reload.started_at)
    if not reload.done.done():
        return {"state": "running", "started_at": started_at}
    if reload.done.cancelled():
        return {"state": "failed", "started_at": started_at, "detail": "it was cancelled"}
    error = reload.done.exception()
    if error is None:
        return {"state": "done", "started_at": started_at, "detail": reload.done.result()}
    state: ReloadWord = "refused" if isinstance(error, ReloadRefused) else "failed"
    return {"state": state, "started_at": started_at, "detail": _why(error)}


def _why(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "it exceeded the probe's timeout; raise the timeout or check why the probe is slow"
    return why(error)


def is_running(reload: ProbeReload | None) -> bool:
    """Tell if *reload* has begun and not ended."""
    return reload is not None and not reload.done.done()
