"""A check or a reload that failed: its word in the metrics, its reading, its line in the log."""

import logging
from typing import Any

from mlopsd.exceptions import safe_message
from mlopsd.log_limit import LogLimiter, gist
from mlopsd.probe import Advice, Finding, ProbeError, Reading, ReloadRefused, Status
from mlopsd.worker.worker import InvalidReading, ProbeRaised, WorkerDied

log = logging.getLogger("mlopsd.watch")


class Stuck(Exception):
    """An earlier call has not come back; a second beside it would hang as well."""


class CheckTimeout(TimeoutError):
    """A check or a reload outlived its time."""


RESULTS = {
    CheckTimeout: "timeout",
    Stuck: "stuck",
    WorkerDied: "died",
    ProbeError: "cannot_tell",
    InvalidReading: "nonsense",
}
BROKEN = "error"  # the result of whatever else is raised: a fault of the probe


class Failures:
    """Those of one probe; the log has each kind once until they are over, or an hour has passed."""

    def __init__(self, probe: str) -> None:
        self._probe = probe
        self._repeats = LogLimiter()

    def of_check(self, error: Exception) -> tuple[str, Reading]:
        """A check that ended with *error*, as its result and its reading."""
        result = next((name for kind, name in RESULTS.items() if isinstance(error, kind)), BROKEN)
        why = _why(error)
        kept_back = self._repeats.worth_saying((result, gist(why)))
        if kept_back is not None:
            self._complain(result, why, kept_back, error)
        return result, Reading(findings=[Finding(result, Status.UNKNOWN, why, advice=Advice.WATCH)])

    def of_reload(self, error: BaseException) -> None:
        """A reload that ended with *error*."""
        broken = not isinstance(error, (ReloadRefused, *RESULTS))
        log.log(
            logging.ERROR if broken else logging.WARNING,
            "reload refused" if isinstance(error, ReloadRefused | ProbeError) else "reload failed",
            extra={"probe": self._probe, "reason": safe_message(error) or type(error).__name__},
            exc_info=error if broken else None,
        )

    def are_over(self) -> None:
        """The probe has answered."""
        if kept_back := self._repeats.forget():
            log.info("the probe answers again", extra={"probe": self._probe, "repeats": kept_back})

    def _complain(self, result: str, why: str, kept_back: int, error: Exception) -> None:
        """One line, with the traceback if it is the probe's fault."""
        extra: dict[str, Any] = {"probe": self._probe, "result": result, "reason": why}
        if kept_back:
            extra["repeats"] = kept_back
        if isinstance(error, ProbeRaised):
            extra["traceback"] = error.traceback
        broken = result == BROKEN
        own = error if broken and not isinstance(error, ProbeRaised) else None
        log.log(
            logging.ERROR if broken else logging.WARNING, "the probe cannot tell", extra=extra, exc_info=own
        )


def _why(error: Exception) -> str:
    known = isinstance(error, (*RESULTS, ProbeRaised))
    return safe_message(error) if known else f"{type(error).__name__}: {safe_message(error)}"
