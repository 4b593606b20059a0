"""What served on this host and does not any more: which version to begin with again, and when."""

from collections import Counter

from mlopsd.probe import Advice
from mlopsd_probes.causes import Cause
from mlopsd_probes.model.cache.contents import CacheContents
from mlopsd_probes.model.rollout.backoff import Backoff
from mlopsd_probes.model.version import Version


class Restart:
    """Remembers losses and failures to make them good.

    Attributes:
        how_lost: why no version serves that did; None while one does.
        advice: what to do about that.
        times: hosts that died, hung or stalled since the daemon started.
    """

    def __init__(self) -> None:
        self.how_lost: str | None = None
        self.advice = Advice.RESTART_APP
        self.times = 0
        self._backoff = Backoff()
        self._stumbles: Counter[str] = Counter()  # failures to load what had proven itself, by its id

    def first_of(self, shelf: CacheContents) -> Version | None:
        """The version to begin with from disk: the current one, or where that fails the one before."""
        return min(shelf.proven(), key=lambda version: self._stumbles[version.id], default=None)

    def may_try(self) -> bool:
        """Whether the wait is over."""
        return self._backoff.may_try()

    def left(self) -> float:
        """Seconds that are left of the wait."""
        return self._backoff.left()

    def lost(self, version: Version, how: str) -> None:
        """The host of *version*, which served, is gone."""
        self.times += 1
        self.how_lost = f"the host of version {version.number} is lost: {how}"
        self.advice = Advice.RESTART_APP
        self._backoff.lost()

    def failed(self, version: Version, why: str, cause: Cause | None) -> None:
        """Note that *version* does not serve again; without a *cause* the disk is at fault.

        With one, another version may be tried first.
        """
        self.how_lost = f"version {version.number}, which served before: {why}"
        self.advice = _advice(cause)
        self._stumbles[version.id] += cause is not None
        self._backoff.failed()

    def is_over(self, version: Version) -> None:
        """*version* serves."""
        self.how_lost = None
        self._stumbles.pop(version.id, None)
        self._backoff.succeeded()


def _advice(cause: Cause | None) -> Advice:
    """Return the advice of *cause*, but not against a version that was proven here once."""
    if cause is None:
        return Advice.FREE_RESOURCES
    return Advice.RESTART_APP if cause.at_fault == "version" else cause.advice
