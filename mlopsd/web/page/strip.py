"""The strip of the status page: the host's status over the last 24 hours, with the cause of each change."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any

from mlopsd.probe import Status
from mlopsd.verdict import Verdict

FIRST, LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
DAY = timedelta(hours=24)
QUARTER = 900.0  # seconds
MOST_SEGMENTS = 48  # more are joined by quarters of an hour, so at most 97
WIDTH = 1440.0  # units of the drawing; one is a minute
NARROWEST = 8.0  # units, so that a short outage can be seen
NOT_KNOWN = "not known: mlopsd did not run, or its history does not go back so far"
STOPPED = "not known: mlopsd was stopped"


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of the day with one status.

    Attributes:
        status: The host's status; None if it is not known.
        start, end: The times in UTC.
        cause: The summary of the host at the change.
        changes: The number of changes in it.
    """

    status: Status | None
    start: datetime
    end: datetime
    cause: str
    changes: int = 1


@dataclass(frozen=True, slots=True)
class DrawnSegment:
    """A segment with its place in the drawing, in units."""

    segment: Segment
    x: float
    width: float


def strip(segments: Iterable[Segment], now: datetime) -> list[DrawnSegment]:
    """Return the part of *segments* within the 24 hours before *now*, with its places."""
    start = now - DAY
    shown = [
        replace(segment, start=max(segment.start, start), end=min(segment.end, now))
        for segment in segments
        if segment.end > start and segment.start < now
    ]
    return [_drawn(segment, start) for segment in _joined(shown)]


def segments_of(events: Iterable[Mapping[str, Any]], verdict: Verdict) -> Iterator[Segment]:
    """Yield the segments by the *events* of the history, oldest first; the last one is that of *verdict*."""
    current, seen = Segment(None, FIRST, LAST, NOT_KNOWN), FIRST
    for event in events:
        at = datetime.fromisoformat(event["time"])
        if (following := _following(event, at)) is not None:
            if at >= verdict.since:
                break
            yield from _ended(current, seen, event.get("before"), at)
            current = following
        seen = at
    else:
        event = {"before": str(verdict.status)}
    yield from _ended(current, seen, event.get("before"), verdict.since)
    yield Segment(verdict.status, verdict.since, LAST, verdict.summary)


def _following(event: Mapping[str, Any], at: datetime) -> Segment | None:
    """Return the segment that *event* begins, or None if it is about something else."""
    if event["event"] == "stopping":
        return Segment(None, at, LAST, STOPPED)
    status = str(event.get("status", "")).upper()
    if event["event"] != "health changed" or status not in Status.__members__:
        return None
    return Segment(Status[status], at, LAST, str(event.get("summary", "")))


def _ended(current: Segment, seen: datetime, before: object, at: datetime) -> Iterator[Segment]:
    """Yield *current* up to *at*.

    If the daemon then had another status *before*, it had ended without a word: from its last event *seen*
    on, nothing is known.
    """
    if current.status is None or before in (None, str(current.status)):
        yield replace(current, end=at)
        return
    yield replace(current, end=max(seen, current.start))
    yield Segment(None, max(seen, current.start), at, NOT_KNOWN)


def _joined(segments: Sequence[Segment]) -> list[Segment]:
    """Return *segments*; join those that begin in one quarter of an hour if there are too many."""
    kept = [one for one in segments if one.end > one.start]
    if len(kept) <= MOST_SEGMENTS:
        return kept
    quarters = groupby(kept, key=lambda one: one.start.timestamp() // QUARTER)
    return [_worst_of(list(group)) for _, group in quarters]


def _worst_of(group: Sequence[Segment]) -> Segment:
    """Return one segment for *group*, with the worst status and its cause."""
    worst = max(group, key=lambda one: -1 if one.status is None else one.status)
    return replace(worst, start=group[0].start, end=group[-1].end, changes=len(group))


def _drawn(segment: Segment, start: datetime) -> DrawnSegment:
    first, last = ((at - start).total_seconds() / 60 for at in (segment.start, segment.end))
    width = max(last - first, NARROWEST)
    return DrawnSegment(segment, min(first, WIDTH - width), width)
