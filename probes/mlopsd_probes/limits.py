"""A pair of limits, and the finding of a number that is compared with them."""

from collections.abc import Callable
from dataclasses import dataclass

from mlopsd.probe import Advice, Finding, Status


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits beyond which a number is ``degraded`` or ``unhealthy``; None means never.

    Attributes:
        degraded: the milder limit.
        unhealthy: the stricter limit.
        floor: the number must not fall below its limits; otherwise it must not reach them.
    """

    degraded: float | None = None
    unhealthy: float | None = None
    floor: bool = False

    def judge(self, observed: float) -> tuple[Status, float | None]:
        """Return the status of *observed*, and the limit that it crossed, or would cross first if healthy."""
        if self._is_crossed(self.unhealthy, observed):
            return Status.UNHEALTHY, self.unhealthy
        if self._is_crossed(self.degraded, observed):
            return Status.DEGRADED, self.degraded
        return Status.HEALTHY, self.unhealthy if self.degraded is None else self.degraded

    def _is_crossed(self, limit: float | None, observed: float) -> bool:
        """Return true if *observed* is on the wrong side of *limit*."""
        if limit is None:
            return False
        return observed < limit if self.floor else observed >= limit

    def finding(
        self,
        name: str,
        fact: str,
        observed: float,
        *,
        unit: str,
        text: Callable[[float], str],
        advice: Advice,
        mild: Advice | None = None,
        subject: str | None = None,
    ) -> Finding:
        """Return *fact* as a finding; add a crossed limit to the sentence, and its advice.

        *mild* is the advice while it is only degraded, by default *advice*.
        """
        status, limit = self.judge(observed)
        if status is Status.HEALTHY or limit is None:
            return Finding(name, Status.HEALTHY, fact, subject, observed, unit, limit)
        summary = f"{fact}, {'below' if self.floor else 'at or above'} {text(limit)}"
        if mild is not None and status is Status.DEGRADED:
            advice = mild
        return Finding(name, status, summary, subject, observed, unit, limit, advice)
