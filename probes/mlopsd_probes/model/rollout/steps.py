"""The steps of a rollout: judge, fetch, load, canary, swap."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path

from mlopsd.predictor import Progress
from mlopsd.probe import Reading
from mlopsd.threads import in_thread
from mlopsd_probes.causes import Cause, Step, cause_of
from mlopsd_probes.model.cache.files import StoreError
from mlopsd_probes.model.cache.store import Store
from mlopsd_probes.model.cache.versions import CachedVersions
from mlopsd_probes.model.metrics import ModelMetrics
from mlopsd_probes.model.options import ModelOptions
from mlopsd_probes.model.progress import Doing, ProgressTracker
from mlopsd_probes.model.rollout.desired import DesiredVersion
from mlopsd_probes.model.rollout.thresholds import Judgement
from mlopsd_probes.model.serving.active_model import ActiveModel, ActiveVersion
from mlopsd_probes.model.serving.canary import CanaryResult
from mlopsd_probes.model.serving.host import LoadFailed, ModelHost
from mlopsd_probes.model.version import CachedVersion, Version
from mlopsd_probes.registry.registries import FetchError, Registries

WARM_UP = 60.0  # seconds for the very first prediction, which may compile or fill a GPU
SHOWN_EVERY = 0.5  # seconds between two shows of how far a fetch is


@dataclass(frozen=True, slots=True)
class RolloutContext:
    """The parts of one model probe.

    Attributes:
        scratch: a folder for what lives as long as a process of ours.
        state_dir: the probe's folder, which no model may see.
        now: the time of day.
        request_check: asks the daemon for a check soon.
        show: shows progress until the next reading.
        board: the last readings of the other probes.
        timeout: seconds that a check may take.
        private_paths: the daemon's other paths that no model may see.
        mismatches: ids of the versions whose joined requests were answered differently from single ones.
        load: makes a host of a version that is on disk, as `ModelHost.load` does.
        wake: set when the reconciler has to plan again.
    """

    options: ModelOptions
    registries: Registries
    store: Store
    scratch: Path
    state_dir: Path
    measures: ModelMetrics
    log: logging.Logger
    now: Callable[[], datetime]
    request_check: Callable[[], None]
    show: Callable[[Progress | None], None]
    board: Mapping[str, Reading]
    timeout: float
    private_paths: Callable[[], Sequence[Path]] = tuple
    mismatches: set[str] = field(default_factory=set)
    load: Callable[..., Awaitable[ModelHost]] = ModelHost.load
    wake: asyncio.Event = field(default_factory=asyncio.Event)


class Failed(Exception):
    """A version did not get through a step.

    Attributes:
        kind: what went wrong there, as `mlopsd_probes.causes.CAUSES` has it.
    """

    def __init__(self, step: Step, reason: str, kind: str = "error") -> None:
        super().__init__(reason)
        self.step: Step = step
        self.kind = kind

    @property
    def cause(self) -> Cause:
        """Whose fault it is, what to do, and when it is tried again."""
        return cause_of(self.step, self.kind)

    @property
    def is_corrupt(self) -> bool:
        """Return whether the files on disk are not what was fetched."""
        return self.kind == "corrupt"


class Steps:
    """Rolls a version out step by step, and reports its progress.

    Attributes:
        has_set_aside: the old version went before the next one is loaded, so none serves on purpose.
    """

    def __init__(
        self,
        context: RolloutContext,
        desired: DesiredVersion,
        cached: CachedVersions,
        active: ActiveModel,
        progress: ProgressTracker,
    ) -> None:
        self._context = context
        self._options = context.options
        self._desired = desired
        self._cached = cached
        self._active = active
        self._progress = progress
        self.has_set_aside = False

    async def roll_out(self, version: Version) -> tuple[ActiveVersion, ActiveVersion | None]:
        """Put *version* into service; return it and the version that it replaced.

        The replaced version still answers its requests, unless ``swap`` is ``replace``. After an error the
        version that served before serves.

        Raises:
            Failed: it failed a step.
            RegistryError: its metrics or its files cannot be had.
            StoreError: the disk refuses it.
        """
        kept = self._cached.contents.find(version)
        if not self._is_verified(version, kept):
            await self._judge(version)
        if kept is None:
            kept = await self._fetch(version)
        aside = None
        try:
            aside = await self._set_aside()
            serving = await self._verify(kept)
        except (Failed, StoreError):
            if aside is not None:
                await self._bring_back(aside)
            raise
        finally:
            self.has_set_aside = False
        self._step("swap", version)
        return serving, self._active.put(serving)

    async def restore(self, kept: CachedVersion) -> ActiveVersion | None:
        """Put *kept*, which was verified before, into service; return None if another version was faster.

        It is not judged, so that no registry is needed.

        Raises:
            Failed: it failed a step.
            StoreError: the disk refuses its process.
        """
        serving = await self._verify(kept)
        if self._active.serving is not None:
            await serving.host.kill()
            return None
        self._active.put(serving)
        return serving

    async def rehearse(self, version: Version) -> str:
        """Return what a rollout of *version* would do.

        Raises:
            Failed: it does not reach the thresholds.
            RegistryError: its metrics cannot be had.
        """
        kept, serving = self._cached.contents.find(version), self._active.serving
        try:
            missing = (await self._judge(version)).missing
        finally:
            self._progress.set(None)
        fetch = "is on disk already" if kept is not None else "would be fetched"
        instead = f"; version {serving.kept.version.number} serves until then" if serving is not None else ""
        unjudged = f"; never logged: {', '.join(missing)}" if missing else ""
        reached = "reaches the thresholds" if self._options.thresholds else "has no thresholds to reach"
        return f"version {version.number} ({version.candidate}) {reached}{unjudged}, and {fetch}{instead}"

    def _is_verified(self, version: Version, kept: CachedVersion | None) -> bool:
        """Return whether *version* serves, or served before while none does now: it is not judged."""
        is_back = self._active.serving is None and kept is not None and kept.proven
        return is_back or self._active.serves(version)

    async def _judge(self, version: Version) -> Judgement:
        self._step("judge", version)
        judgement = await self._desired.judge(version)
        if judgement.failed:
            raise Failed("thresholds", "; ".join(judgement.failed))
        return judgement

    async def _fetch(self, version: Version) -> CachedVersion:
        began = time.monotonic()
        self._step("fetch", version)
        show = _Throttle(self._step, version)
        making = asyncio.create_task(self._part(version), name=f"make room for version {version.number}")
        try:
            part = await asyncio.shield(making)
            files = await self._context.registries.fetch(version, part, show)
            kept: CachedVersion = await in_thread(
                "keep a version", lambda: self._context.store.keep(version, files)
            )
        except FetchError as error:
            if error.is_of_disk:
                raise StoreError(f"cannot fetch version {version.number}: {error}") from error
            if error.is_of_version:
                raise Failed("fetch", str(error), error.kind) from error
            raise self._desired.unmet(version, "files", error.kind, str(error)) from error
        finally:
            await asyncio.shield(self._discard(version, making))
        self._desired.met()
        self._context.measures.phase("fetch", time.monotonic() - began)
        self._cached.add(kept)
        return kept

    async def _part(self, version: Version) -> Path:
        serving = self._active.serving
        spared = [serving.kept.version] if serving is not None else []
        store = self._context.store
        return await in_thread("make room for a version", lambda: store.part(version, *spared))

    async def _discard(self, version: Version, making: asyncio.Task[Path]) -> None:
        """Remove the partial files once they are there, also after a cancellation."""
        await asyncio.wait({making})
        making.exception()  # which the fetch raised
        await in_thread("clear up", lambda: self._context.store.discard(version))

    async def _set_aside(self) -> ActiveVersion | None:
        """Drain and end the version in service, if memory holds only one version."""
        if self._options.swap != "replace" or (aside := self._active.take()) is None:
            return None
        self.has_set_aside = True
        self._step("drain", aside.kept.version)
        await aside.host.end(self._options.prediction.timeout)
        return aside

    async def _bring_back(self, aside: ActiveVersion) -> None:
        try:
            self._active.put(await self._verify(aside.kept))
        except (Failed, StoreError):
            self._context.log.exception(
                "cannot bring back the version before", extra=aside.kept.version.facts()
            )

    async def _verify(self, kept: CachedVersion) -> ActiveVersion:
        """Load *kept* and return it once its canary passed."""
        host = await self._load(kept)
        try:
            self._step("canary", kept.version)
            canary = await self._canary(host)
        except BaseException:
            await asyncio.shield(host.kill())
            raise
        if not canary.passed:
            await asyncio.shield(host.kill())
            raise Failed("canary", canary.reason, canary.kind or "error")
        moment = self._context.now()
        return ActiveVersion(kept, host, moment, canary, moment if canary.verified else None)

    async def _load(self, kept: CachedVersion) -> ModelHost:
        self._step("load", kept.version)
        try:
            return await self._context.load(
                kept,
                self._options,
                self._context.log,
                scratch=self._context.scratch,
                hidden=[self._context.state_dir, *self._context.private_paths()],
                phase=self._context.measures.phase,
                observe=self._active.observe,
                mismatched=kept.version.id in self._context.mismatches,
                on_mismatch=partial(self._note_mismatch, kept.version),
            )
        except LoadFailed as error:
            raise Failed("load", error.reason, error.kind) from error
        except OSError as error:
            raise StoreError.of("start a process for the model", self._context.scratch, error) from error

    def _note_mismatch(self, version: Version) -> None:
        """Join no requests of *version* any more, in whichever process of it."""
        self._context.mismatches.add(version.id)
        self._context.measures.batching_mismatches.inc()
        self._context.log.warning("batching mismatch", extra={"version": version.number})
        self._context.wake.set()

    async def _canary(self, host: ModelHost) -> CanaryResult:
        """Return the canary; repeat it if the first was slow, as the first prediction of a process may be."""
        began = time.monotonic()
        limit = self._options.canary.timeout
        canary = await host.canary(max(WARM_UP, limit))
        if canary.passed and canary.seconds > limit:
            canary = await host.canary(limit)
        self._context.measures.canary_seconds.observe(canary.seconds)
        self._context.measures.phase("canary", time.monotonic() - began)
        return canary

    def _step(self, step: Doing, version: Version, size: int | None = None, total: int | None = None) -> None:
        self._progress.set(Progress(step, version.number, self._context.now(), size, total))


class _Throttle:
    """Reports the bytes of a fetch now and then."""

    def __init__(
        self, step: Callable[[Doing, Version, int | None, int | None], None], version: Version
    ) -> None:
        self._step = step
        self._version = version
        self._shown_at = float("-inf")

    def __call__(self, size: int, total: int | None) -> None:
        if (now := time.monotonic()) - self._shown_at >= SHOWN_EVERY or size == total:
            self._shown_at = now
            self._step("fetch", self._version, size, total)
