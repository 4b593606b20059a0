"""What the board knows of one probe, and how its status is damped."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import takewhile
from typing import Any

from mlopsd.probe import Reading, Status


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


def damped(before: Entry, raw: Status) -> tuple[Status, tuple[Status, ...]]:
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
