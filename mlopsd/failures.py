"""The failures of checks and reloads: the result in the metrics, the reading, the log line."""

import logging
import time
from collections.abc import Callable
from typing import Any

from mlopsd.exceptions import author_frames, safe_message
from mlopsd.format import format_duration
from mlopsd.log_limit import LogLimiter, fingerprint
from mlopsd.probe import Advice, Finding, Isolation, ProbeError, Reading, ReloadRefused, Status
from mlopsd.worker.loop_use import LoopHold
from mlopsd.worker.worker import UNKILLABLE, InvalidReading, ProbeRaised, WorkerDied

log = logging.getLogger("mlopsd.watch")


class Stuck(Exception):
    """The error of a call while an earlier call still hangs."""


class CheckTimeout(TimeoutError):
    """The error of a check or a reload that exceeded its timeout."""


RESULTS = {
    CheckTimeout: "timeout",
    Stuck: "stuck",
    WorkerDied: "died",
    ProbeError: "cannot_tell",
    InvalidReading: "nonsense",
}
BROKEN = "error"  # the result of any other exception: a bug of the probe
LASTING_ADVICE = {  # by result, from the second failure in a row on
    "stuck": Advice.RESTART_APP,  # only another process gets rid of the call that hangs
}
LASTING_FIXES = {
    "timeout": "check what it asks, or raise its timeout",
    "stuck": 'restart mlopsd, and set isolation = "process" in its table',
    "died": "upgrade its package, or take its table out",
    "nonsense": "upgrade its package, or take its table out",
    BROKEN: "upgrade its package, or take its table out",
}  # the message of the probe itself has a fix of its own


class Failures:
    """The failures of one probe. Each kind is logged once per hour, until the probe recovers."""

    def __init__(
        self, probe: str, isolation: Isolation = "thread", clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._probe = probe
        self._isolation = isolation
        self._clock = clock
        self._failed_since = 0.0
        self._in_a_row = 0
        self._limiter = LogLimiter()
        self._holds = LogLimiter()

    def of_check(self, error: Exception) -> tuple[str, Reading]:
        """Return the result and the reading of a check that ended with *error*, and log it."""
        result = next((name for error_type, name in RESULTS.items() if isinstance(error, error_type)), BROKEN)
        reason = why(error)
        repeats = self._limiter.allow((result, fingerprint(reason)))
        if repeats is not None:
            self._log_failure(result, reason, repeats, error)
        return result, Reading(findings=[self._finding(result, reason)])

    def _finding(self, result: str, reason: str) -> Finding:
        """Return the finding of a failed check: it may pass the first time, and needs an act if it lasts."""
        now, name = self._clock(), result
        self._in_a_row += 1
        if self._in_a_row == 1:
            self._failed_since = now
            return Finding(name, Status.UNKNOWN, reason, advice=Advice.WATCH)
        lasting = f"{reason} (for {format_duration(now - self._failed_since)}, {self._in_a_row} checks)"
        if result == "stuck" and self._isolation == "process":  # a call that hangs ends with its process
            result = "timeout"
        advice = _lasting_advice(result, reason)
        fix = None if advice is Advice.REBOOT else LASTING_FIXES.get(result)  # its reason has that
        text = lasting if fix is None else f"{lasting}; {fix}"
        return Finding(name, Status.UNKNOWN, text, advice=advice)

    def of_reload(self, error: BaseException) -> None:
        """Log a reload that ended with *error*."""
        broken = not isinstance(error, (ReloadRefused, *RESULTS))
        log.log(
            logging.ERROR if broken else logging.WARNING,
            "reload refused" if isinstance(error, ReloadRefused | ProbeError) else "reload failed",
            extra={"probe": self._probe, "reason": why(error)},
            exc_info=_raised(error) if broken else None,
        )

    def of_hold(self, hold: LoopHold) -> None:
        """Log a step of the probe that held the event loop, once per hour and place."""
        if (repeats := self._holds.allow((hold.call, hold.where))) is not None:
            extra = {"probe": self._probe, "call": hold.call, "seconds": hold.seconds, "where": hold.where}
            log.warning("event loop held", extra=extra | ({"repeats": repeats} if repeats else {}))

    def are_over(self) -> None:
        """Forget the failures in a row; log the recovery of the probe, if failures were suppressed."""
        self._in_a_row = 0
        if repeats := self._limiter.forget():
            log.info("probe check recovered", extra={"probe": self._probe, "repeats": repeats})

    def _log_failure(self, result: str, reason: str, repeats: int, error: Exception) -> None:
        """Log one line, with the traceback if it is the probe's fault."""
        extra: dict[str, Any] = {"probe": self._probe, "result": result, "reason": reason}
        if repeats:
            extra["repeats"] = repeats
        if isinstance(error, ProbeRaised):
            extra["traceback"] = error.traceback
        broken = result == BROKEN
        own = _raised(error) if broken and not isinstance(error, ProbeRaised) else None
        log.log(logging.ERROR if broken else logging.WARNING, "probe check failed", extra=extra, exc_info=own)


def _lasting_advice(result: str, reason: str) -> Advice:
    """Return the act against a failure that lasts; the probe, its package or what it asks is on this host."""
    if UNKILLABLE in reason:
        return Advice.REBOOT
    if "SIGKILL" in reason:  # the kernel sends it when memory runs out
        return Advice.FREE_RESOURCES
    return LASTING_ADVICE.get(result, Advice.FIX_CONFIG)


def _raised(error: BaseException) -> BaseException | tuple[type[BaseException], BaseException, Any]:
    """Return *error* for a log line, without mlopsd's frames before the author's unless in debug mode."""
    return error if log.isEnabledFor(logging.DEBUG) else (type(error), error, author_frames(error))


def why(error: BaseException) -> str:
    """Return the message of *error*, after its type if it is none of the contract: "KeyError: 'x'"."""
    message, name = safe_message(error), type(error).__name__
    if not message:
        return name
    return message if isinstance(error, (*RESULTS, ProbeRaised, ReloadRefused)) else f"{name}: {message}"
