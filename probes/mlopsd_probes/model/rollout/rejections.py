"""The versions that this host will not serve for now, each with the step that refused it and until when."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from mlopsd_probes.causes import Cause, Step
from mlopsd_probes.model.progress import moment_text
from mlopsd_probes.model.rollout.backoff import FIRST, FIRST_LATER, LONGEST, LONGEST_SOON
from mlopsd_probes.model.version import Version

LONGEST_FACTOR = 6  # the back-off doubles up to this many times the configured one
WAITS = {
    "soon": (FIRST, LONGEST_SOON),
    "later": (FIRST_LATER, LONGEST),
}  # the first and the longest, in seconds


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a version is not served.

    Attributes:
        step: what it did not get through.
        cause: whose fault that is, and what to do.
        until: when it is tried again by itself.
        backoff: seconds from the refusal to *until*.
    """

    version: Version
    step: Step
    reason: str
    until: datetime
    backoff: float
    cause: Cause

    @property
    def is_refused(self) -> bool:
        """Whether it waits as long as the configuration says; else something else need only get well."""
        return self.cause.retry == "rejected"

    @property
    def what(self) -> str:
        """What became of the version, for a sentence."""
        return f"version {self.version.number} {'was rejected' if self.is_refused else 'is not taken up'}"

    def facts(self) -> dict[str, Any]:
        """As a reading shows it."""
        return {
            "version": self.version.number,
            "step": self.step,
            "reason": self.reason,
            "at_fault": self.cause.at_fault,
            "until": moment_text(self.until),
        }


class Rejections:
    """Remembers them until the registry wants another version or the back-off has passed."""

    def __init__(self, backoff: float, now: Callable[[], datetime]) -> None:
        self._backoff = backoff
        self._now = now
        self._refused: dict[str, Rejection] = {}

    def __iter__(self) -> Iterator[Rejection]:
        return iter(list(self._refused.values()))

    def holds(self, version: Version) -> bool:
        """Whether *version* is not to be tried now."""
        refusal = self._refused.get(version.id)
        return refusal is not None and self._now() < refusal.until

    def refuse(self, version: Version, step: Step, reason: str, cause: Cause) -> Rejection:
        """Remember that *version* did not get through *step*; each time it waits twice as long."""
        before = self._refused.get(version.id)
        first, longest = WAITS.get(cause.retry, (self._backoff, self._backoff * LONGEST_FACTOR))
        is_again = before is not None and before.cause.retry == cause.retry
        backoff = min(2 * before.backoff, longest) if before is not None and is_again else first
        until = self._now() + timedelta(seconds=backoff)
        refusal = self._refused[version.id] = Rejection(version, step, reason, until, backoff, cause)
        return refusal

    def pardon(self, version: Version) -> None:
        """*version* got through."""
        self._refused.pop(version.id, None)

    def keep_only(self, *wanted: Version | None) -> None:
        """Forget what nobody asks for any more."""
        ids = {version.id for version in wanted if version is not None}
        self._refused = {id_: refusal for id_, refusal in self._refused.items() if id_ in ids}
