"""The versions that this host will not serve for now, each with the step that refused it and until when."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from mlopsd_probes.model.progress import moment_text
from mlopsd_probes.model.version import Version

Step = Literal["thresholds", "fetch", "load", "canary"]
LONGEST_FACTOR = 6  # the back-off doubles up to this many times the configured one


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a version is not served.

    Attributes:
        step: what it did not get through.
        until: when it is tried again by itself.
        backoff: seconds from the refusal to *until*.
    """

    version: Version
    step: Step
    reason: str
    until: datetime
    backoff: float

    def facts(self) -> dict[str, Any]:
        """As a reading shows it."""
        return {
            "version": self.version.number,
            "step": self.step,
            "reason": self.reason,
            "until": moment_text(self.until),
        }


class Refusals:
    """Remembers them until the registry wants another version or the back-off has passed."""

    def __init__(self, backoff: float, now: Callable[[], datetime]) -> None:
        self._backoff = backoff
        self._now = now
        self._refused: dict[str, Refusal] = {}

    def __iter__(self) -> Iterator[Refusal]:
        return iter(list(self._refused.values()))

    def holds(self, version: Version) -> bool:
        """Whether *version* is not to be tried now."""
        refusal = self._refused.get(version.id)
        return refusal is not None and self._now() < refusal.until

    def refuse(self, version: Version, step: Step, reason: str) -> Refusal:
        """Remember that *version* did not get through *step*; each time it waits twice as long."""
        before = self._refused.get(version.id)
        longest = self._backoff * LONGEST_FACTOR
        backoff = self._backoff if before is None else min(2 * before.backoff, longest)
        until = self._now() + timedelta(seconds=backoff)
        refusal = self._refused[version.id] = Refusal(version, step, reason, until, backoff)
        return refusal

    def pardon(self, version: Version) -> None:
        """*version* got through."""
        self._refused.pop(version.id, None)

    def keep_only(self, *wanted: Version | None) -> None:
        """Forget what nobody asks for any more."""
        ids = {version.id for version in wanted if version is not None}
        self._refused = {id_: refusal for id_, refusal in self._refused.items() if id_ in ids}
