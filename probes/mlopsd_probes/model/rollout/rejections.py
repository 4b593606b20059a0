"""Rejected versions, lost hosts, and the waits before the next attempt."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from mlopsd.probe import Advice
from mlopsd.process.backoff import FIRST, LONGEST, ExponentialBackoff
from mlopsd_probes.causes import Cause, Step
from mlopsd_probes.registry.version import Version

FIRST_LATER = 30.0  # seconds; each attempt costs a transfer or a load
LONGEST_SOON = 60.0  # seconds; for failures that are not the version's fault
LONGEST_FACTOR = 6  # the back-off doubles up to this many times the configured one
# The first wait and the longest, in seconds.
WAITS = {"soon": (FIRST, LONGEST_SOON), "later": (FIRST_LATER, LONGEST)}


@dataclass(frozen=True, slots=True)
class Rejection:
    """A version that failed a step, and the time of its next try.

    Attributes:
        step: the step that it failed.
        cause: the side at fault, and the advice.
        until: the time of the next automatic try.
        backoff: seconds from the failure to *until*.
    """

    version: Version
    step: Step
    reason: str
    until: datetime
    backoff: float
    cause: Cause

    @property
    def is_rejected(self) -> bool:
        """Return whether the version itself was rejected, and not only kept back by a fault of this host.

        A rejected version waits for ``rejected_backoff``.
        """
        return self.cause.retry == "rejected"

    @property
    def what(self) -> str:
        """Return the beginning of a sentence about the version: its number and its state."""
        return f"version {self.version.number} {'was rejected' if self.is_rejected else 'is not taken up'}"


class Rejections:
    """Remembers rejections until the registry wants another version."""

    def __init__(self, backoff: float, now: Callable[[], datetime]) -> None:
        self._backoff = backoff
        self._now = now
        self._by_id: dict[str, Rejection] = {}

    def __iter__(self) -> Iterator[Rejection]:
        return iter(list(self._by_id.values()))

    def by_id(self) -> dict[str, Rejection]:
        """Return a copy of the rejections by the version's id."""
        return dict(self._by_id)

    def add(self, version: Version, step: Step, reason: str, cause: Cause) -> Rejection:
        """Record that *version* failed *step*; each failure doubles the wait."""
        before = self._by_id.get(version.id)
        first, longest = WAITS.get(cause.retry, (self._backoff, self._backoff * LONGEST_FACTOR))
        is_again = before is not None and before.cause.retry == cause.retry
        backoff = min(2 * before.backoff, longest) if before is not None and is_again else first
        until = self._now() + timedelta(seconds=backoff)
        rejection = self._by_id[version.id] = Rejection(version, step, reason, until, backoff, cause)
        return rejection

    def clear(self, version: Version) -> None:
        """Forget that *version* failed."""
        self._by_id.pop(version.id, None)

    def keep_only(self, *wanted: Version | None) -> None:
        """Forget every version that is not *wanted*, and those whose tag with the digest has changed."""
        kept = {(version.id, version.tagged_digest) for version in wanted if version is not None}
        self._by_id = {
            id_: rejection
            for id_, rejection in self._by_id.items()
            if (id_, rejection.version.tagged_digest) in kept
        }


class Losses:
    """Remembers lost hosts and failures to restore them.

    Attributes:
        how: how the version in service was lost; None while one serves.
        since: when it was lost; None while one serves.
        advice: the advice about that loss.
        times: hosts that died, hung or stalled since the daemon started.
        backoff: the wait before the next restore.
        stumbles: failures to load a verified version, by its id.
    """

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self.how: str | None = None
        self.since: datetime | None = None
        self.advice = Advice.RESTART_APP
        self.times = 0
        self.backoff = ExponentialBackoff()
        self.stumbles: Counter[str] = Counter()

    def add(self, version: Version, how: str) -> None:
        """Record that the host of *version*, which was in service, is lost."""
        self.times += 1
        self.how = f"version {version.number} is lost ({how})"
        self.since = self.since or self._now()
        self.advice = Advice.RESTART_APP
        self.backoff.lost()

    def stumble(self, version: Version, reason: str, cause: Cause | None) -> None:
        """Record that *version* was not restored; without a *cause* the disk is at fault.

        With a *cause*, the next restore may try another version first.
        """
        self.how = f"version {version.number}, which served before, does not start ({reason})"
        self.since = self.since or self._now()
        self.advice = _advice(cause)
        self.stumbles[version.id] += cause is not None
        self.backoff.failed()

    def end(self, version: Version) -> None:
        """Record that *version* serves."""
        self.how = self.since = None
        self.stumbles.pop(version.id, None)
        self.backoff.succeeded()


def _advice(cause: Cause | None) -> Advice:
    """Return the advice of *cause*, but none against a version that passed its canary here before."""
    if cause is None:
        return Advice.FREE_RESOURCES
    return Advice.RESTART_APP if cause.at_fault == "version" else cause.advice
