"""The version in service: its requests, their limits, and the loss of its host."""

import asyncio
import logging
import time
from dataclasses import dataclass, replace
from datetime import datetime

from mlopsd.predictor import Prediction, PredictionError
from mlopsd_probes.model.metrics import ModelMetrics
from mlopsd_probes.model.options import CanaryOptions, PredictionOptions
from mlopsd_probes.model.progress import ProgressTracker
from mlopsd_probes.model.serving.canary import CanaryResult
from mlopsd_probes.model.serving.host import HostDied, ModelHost
from mlopsd_probes.model.version import CachedVersion
from mlopsd_probes.registry.version import Version

RETRY_BUSY = 1.0  # seconds; Retry-After of a 429
RETRY_EMPTY = 5.0
RESULTS = {
    400: "bad_request",
    413: "too_large",
    415: "bad_request",
    429: "too_many",
    500: "model_failed",
    503: "no_model",
    504: "timeout",
}


@dataclass(frozen=True, slots=True)
class ActiveVersion:
    """A version that answers.

    Attributes:
        since: the time when it was put into service.
        canary: its last canary prediction.
        proven_at: the time when a canary last passed.
        is_outdated: it was loaded with options that have changed since.
    """

    kept: CachedVersion
    host: ModelHost
    since: datetime
    canary: CanaryResult
    proven_at: datetime | None
    is_outdated: bool = False

    @property
    def is_answering(self) -> bool:
        """Return False if the host is known not to answer: its heartbeat or its last canary is missing."""
        return self.host.is_beating and not self.canary.is_silent


def is_canary_due(serving: ActiveVersion, options: CanaryOptions, now: datetime, *, has_proof: bool) -> bool:
    """Return whether *serving* must make its canary prediction at this check.

    A canary that failed is repeated at once. A caller's answer with proof takes the place of one, unless a
    golden answer is expected.
    """
    if not serving.canary.passed or serving.proven_at is None:
        return True
    if has_proof and options.expect is None:
        return False
    return (now - serving.proven_at).total_seconds() >= options.interval


@dataclass(frozen=True, slots=True)
class Lost:
    """A version whose host is gone; *how* is a sentence."""

    version: Version
    how: str


class ActiveModel:
    """Passes requests to the host of the version in service; sets *wake* when that host is lost.

    Attributes:
        lost: the version that was lost last, until the reconciler reads and clears it.
        why_none: the reason why no version is in service; *progress* takes precedence.
    """

    def __init__(
        self,
        options: PredictionOptions,
        measures: ModelMetrics,
        log: logging.Logger,
        wake: asyncio.Event,
        progress: ProgressTracker,
    ) -> None:
        self._options = options
        self._measures = measures
        self._log = log
        self._wake = wake
        self._progress = progress
        self.lost: Lost | None = None
        self.why_none = "nothing was found yet"
        self._serving: ActiveVersion | None = None
        self._in_flight = 0
        self._watching: asyncio.Task[None] | None = None
        self._guarding: asyncio.Task[None] | None = None

    @property
    def serving(self) -> ActiveVersion | None:
        """Return the version in service."""
        return self._serving

    def put(self, serving: ActiveVersion) -> ActiveVersion | None:
        """Put *serving* into service; return the previous version, which still has to drain."""
        before = self.take()
        self._serving = serving
        loop, pid = asyncio.get_running_loop(), serving.host.pid
        self._watching = loop.create_task(self._watch(serving), name=f"watch host {pid}")
        self._guarding = loop.create_task(self._guard(serving), name=f"guard host {pid}")
        return before

    def take(self) -> ActiveVersion | None:
        """Take the version out of service and return it; it gets no more requests."""
        before, self._serving = self._serving, None
        for task in (self._watching, self._guarding):
            if task is not None and task is not asyncio.current_task():
                task.cancel()
        self._watching = self._guarding = None
        return before

    def serves(self, version: Version) -> bool:
        """Return whether *version* is in service, whichever candidate named it."""
        return self._serving is not None and self._serving.kept.version.id == version.id

    def holds(self, host: ModelHost) -> bool:
        """Return whether *host* is in service."""
        return self._serving is not None and self._serving.host is host

    def rename(self, version: Version) -> None:
        """Record that another candidate now names the version in service."""
        if self._serving is not None:
            self._serving = replace(self._serving, kept=replace(self._serving.kept, version=version))

    def proven(self, host: ModelHost, canary: CanaryResult, at: datetime) -> None:
        """Record the *canary* of *host*, if that is still in service."""
        if self._serving is not None and self._serving.host is host:
            proven_at = at if canary.passed else self._serving.proven_at
            self._serving = replace(self._serving, canary=canary, proven_at=proven_at)

    async def predict(self, body: bytes, content_type: str) -> Prediction:
        """Return the prediction of the version in service.

        Raises:
            PredictionError: there is none; the code says why.
        """
        began = time.perf_counter()
        try:
            prediction = await self._predict(body, content_type)
        except PredictionError as error:
            self._measures.predictions.inc(result=RESULTS.get(error.code, "failed"))
            raise
        self._measures.predictions.inc(result="ok")
        self._measures.prediction_seconds.observe(time.perf_counter() - began)
        return prediction

    async def close(self) -> None:
        """Kill the host."""
        if (before := self.take()) is not None:
            await before.host.kill()

    async def _predict(self, body: bytes, content_type: str) -> Prediction:
        if (serving := self._serving) is None:
            progress = self._progress.current
            reason = self.why_none if progress is None else progress.sentence()
            raise PredictionError(503, f"no version is in service: {reason}", RETRY_EMPTY)
        in_flight = max(self._in_flight, serving.host.predictions_in_flight)
        if in_flight >= self._options.max_in_flight:
            detail = f"{in_flight} requests are being predicted ([…prediction] max_in_flight); retry"
            raise PredictionError(429, detail, RETRY_BUSY)
        self._in_flight += 1
        try:
            async with asyncio.timeout(self._options.timeout):
                return await serving.host.predict(body, content_type, self._options.timeout)
        except TimeoutError:
            detail = f"no prediction within {self._options.timeout:g} s ([…prediction] timeout)"
            raise PredictionError(504, detail) from None
        except HostDied as error:
            raise PredictionError(500, "the model's process ended while it predicted") from error
        finally:
            self._in_flight -= 1

    async def _watch(self, serving: ActiveVersion) -> None:
        how = await serving.host.died()
        self._lose(serving, "crash", f"its process {how}")

    async def _guard(self, serving: ActiveVersion) -> None:
        """Kill the host of *serving* once it hangs or stalls; a slow host does neither."""
        while (diagnosis := serving.host.diagnose()) is None:  # noqa: ASYNC110  # no event signals silence
            await asyncio.sleep(serving.host.beat_interval)
        await serving.host.kill()
        self._lose(serving, *diagnosis)

    def _lose(self, serving: ActiveVersion, reason: str, how: str) -> None:
        if not self.holds(serving.host):
            return
        self._measures.restarts.inc(reason=reason)
        version = serving.kept.version
        self._log.error("model host lost", extra={"version": version.number, "reason": reason, "how": how})
        self.take()
        self.lost = Lost(version, how)
        self._wake.set()
