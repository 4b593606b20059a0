"""The version in service: who may ask it, for how long, and what happens when its host dies or hangs."""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from mlopsd.predictor import Prediction, PredictionError
from mlopsd_probes.model.metrics import ModelMetrics
from mlopsd_probes.model.options import PredictionOptions
from mlopsd_probes.model.serving.canary import CanaryResult
from mlopsd_probes.model.serving.host import HostDied, ModelHost
from mlopsd_probes.model.serving.observation import Observation
from mlopsd_probes.model.version import CachedVersion, Version

RETRY_BUSY = 1.0  # seconds after which a caller who met a full house asks again
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
        since: when it was put into service.
        canary: its last canary prediction.
        proven_at: when a canary last passed.
        is_outdated: it was loaded as the table said before it was changed.
    """

    kept: CachedVersion
    host: ModelHost
    since: datetime
    canary: CanaryResult
    proven_at: datetime | None
    is_outdated: bool = False


Lost = Callable[[ActiveVersion, str, str], None]


class ActiveModel:
    """Passes requests to the host of the version in service.

    *why_not* says in a sentence why no version is in service. *on_lost* is told of a version whose host
    is gone, with ``crash``, ``hang`` or ``stall`` and how it ended.
    """

    def __init__(
        self,
        options: PredictionOptions,
        measures: ModelMetrics,
        log: logging.Logger,
        why_not: Callable[[], str],
        on_lost: Lost,
    ) -> None:
        self._options = options
        self._measures = measures
        self._log = log
        self._why_not = why_not
        self._on_lost = on_lost
        self._serving: ActiveVersion | None = None
        self._in_flight = 0
        self._watching: asyncio.Task[None] | None = None
        self._guarding: asyncio.Task[None] | None = None

    @property
    def serving(self) -> ActiveVersion | None:
        """The version in service."""
        return self._serving

    def put(self, serving: ActiveVersion) -> ActiveVersion | None:
        """From now on *serving* answers; the one before, which still answers what it was asked."""
        before = self.take()
        self._serving = serving
        loop, pid = asyncio.get_running_loop(), serving.host.pid
        self._watching = loop.create_task(self._watch(serving), name=f"watch host {pid}")
        self._guarding = loop.create_task(self._guard(serving), name=f"guard host {pid}")
        return before

    def take(self) -> ActiveVersion | None:
        """Out of service with what is in it; nobody else is sent there."""
        before, self._serving = self._serving, None
        for task in (self._watching, self._guarding):
            if task is not None and task is not asyncio.current_task():
                task.cancel()
        self._watching = self._guarding = None
        return before

    def serves(self, version: Version) -> bool:
        """Return whether *version* is in service, by whichever name."""
        return self._serving is not None and self._serving.kept.version.id == version.id

    def holds(self, host: ModelHost) -> bool:
        """Return whether *host* is in service; what is known of it is replaced, itself never."""
        return self._serving is not None and self._serving.host is host

    def rename(self, version: Version) -> None:
        """The version in service is named by another candidate now."""
        if self._serving is not None:
            self._serving = replace(self._serving, kept=replace(self._serving.kept, version=version))

    def proven(self, host: ModelHost, canary: CanaryResult, at: datetime) -> None:
        """*host* made *canary*; nothing if it is no longer in service."""
        if self._serving is not None and self._serving.host is host:
            proven_at = at if canary.passed else self._serving.proven_at
            self._serving = replace(self._serving, canary=canary, proven_at=proven_at)

    async def predict(self, body: bytes, content_type: str) -> Prediction:
        """Have the version in service predict.

        Raises:
            Unpredicted: it did not.
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

    def observe(self, observation: Observation) -> None:
        """Count what a request's answer was made of."""
        self._measures.prediction_rows.observe(observation.rows)
        if observation.counts:
            self._measures.prediction_value.observe_counts(observation.counts, observation.total)
        for name, times in observation.classes.items():
            self._measures.prediction_classes.inc(times, **{"class": name})

    async def close(self) -> None:
        """End the host at once."""
        if (before := self.take()) is not None:
            await before.host.kill()

    async def _predict(self, body: bytes, content_type: str) -> Prediction:
        if (serving := self._serving) is None:
            raise PredictionError(503, f"no version is in service: {self._why_not()}", RETRY_EMPTY)
        in_flight = max(self._in_flight, serving.host.predictions_in_flight)
        if in_flight >= self._options.max_in_flight:
            detail = f"{in_flight} requests are being predicted ([…prediction] max_in_flight); ask again"
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
        """Kill the host of *serving* once it hangs or stalls; a slow one does neither."""
        while (ailment := serving.host.ailment()) is None:  # noqa: ASYNC110  # nothing tells of silence
            await asyncio.sleep(serving.host.beat_interval)
        await serving.host.kill()
        self._lose(serving, *ailment)

    def _lose(self, serving: ActiveVersion, reason: str, how: str) -> None:
        if not self.holds(serving.host):
            return
        self._measures.restarts.inc(reason=reason)
        self._on_lost(serving, reason, how)
