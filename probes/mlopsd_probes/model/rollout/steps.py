"""The steps of a rollout: judge, fetch, load, canary, swap."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from mlopsd.predictor import Progress
from mlopsd.probe import Context
from mlopsd.threads import in_thread
from mlopsd_probes.causes import Cause, Step, cause_of
from mlopsd_probes.model.cache.files import StoreError
from mlopsd_probes.model.cache.stamps import Stamps
from mlopsd_probes.model.cache.store import Store
from mlopsd_probes.model.cache.versions import CachedVersions
from mlopsd_probes.model.options import ModelOptions
from mlopsd_probes.model.progress import Doing, ProgressTracker
from mlopsd_probes.model.rollout.desired import DesiredVersion
from mlopsd_probes.model.rollout.provenance import tag_fault
from mlopsd_probes.model.rollout.thresholds import Judgement
from mlopsd_probes.model.serving.active_model import ActiveModel, ActiveVersion
from mlopsd_probes.model.serving.canary import CanaryResult
from mlopsd_probes.model.serving.host import HostContext, LoadFailed, ModelHost
from mlopsd_probes.model.version import CachedVersion
from mlopsd_probes.registry.registries import Complaint, FetchError, Registries
from mlopsd_probes.registry.version import Version

WARM_UP = 60.0  # seconds for a process' first prediction, which may compile code or fill a GPU


@dataclass(frozen=True, slots=True)
class RolloutContext:
    """The parts of one model probe.

    Attributes:
        probe: the daemon's side: its clock of checks, its board, its folders and its log.
        hosts: the parts that the processes of the model share.
        now: returns the time of day.
        load: starts a host for a version on disk, as `ModelHost.load` does.
    """

    probe: Context
    options: ModelOptions
    registries: Registries
    store: Store
    hosts: HostContext
    now: Callable[[], datetime]
    load: Callable[..., Awaitable[ModelHost]] = ModelHost.load


class Failed(Exception):
    """A version failed a step.

    Attributes:
        kind: the kind of failure, a key of `mlopsd_probes.causes.CAUSES`.
    """

    def __init__(self, step: Step, reason: str, kind: str = "error") -> None:
        super().__init__(reason)
        self.step: Step = step
        self.kind = kind

    @property
    def cause(self) -> Cause:
        """The side at fault, the advice, and the time of the next try."""
        return cause_of(self.step, self.kind)

    @property
    def is_corrupt(self) -> bool:
        """Return whether the files on disk differ from the fetched ones."""
        return self.kind == "corrupt"


class Steps:
    """Rolls a version out step by step, and reports its progress.

    Attributes:
        has_set_aside: no version serves on purpose: the old one was unloaded to make room for the next.
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
        self._measures = context.hosts.measures
        self._options = context.options
        self._desired = desired
        self._cached = cached
        self._active = active
        self._progress = progress
        self.has_set_aside = False

    async def roll_out(self, version: Version) -> tuple[ActiveVersion, ActiveVersion | None]:
        """Put *version* into service; return it and the version that it replaced.

        The replaced version finishes its requests, unless ``swap`` is ``replace``. After an error the version
        that served before keeps serving.

        Raises:
            Failed: *version* failed a step.
            RegistryError: the registry does not give its metrics or files.
            StoreError: the disk cannot keep it.
        """
        kept = self._cached.contents.find(version)
        if not self._is_verified(version, kept):
            await self._judge(version)
            if kept is not None and await self._desired.attest(kept) is not None:
                kept = None  # the download decides, since the store may have other files now
        if kept is None:
            kept = await self._fetch(version)
        aside = None
        try:
            aside = await self._set_aside()
            serving = await self._verify(kept)
        except (Failed, StoreError):
            if aside is not None:
                await self._roll_back(aside)
            raise
        finally:
            self.has_set_aside = False
        self._step("swap", version)
        return serving, self._active.put(serving)

    async def restore(self, kept: CachedVersion) -> ActiveVersion | None:
        """Put *kept*, which passed its canary before, into service; return None if another was faster.

        Do not judge it, so that no registry is needed.

        Raises:
            Failed: *kept* failed a step.
            StoreError: the disk failed while its process was started.
        """
        serving = await self._verify(kept)
        if self._active.serving is not None:
            await asyncio.shield(serving.host.kill())
            return None
        self._active.put(serving)
        return serving

    async def rehearse(self, version: Version) -> str:
        """Return a sentence on what a rollout of *version* would do.

        Raises:
            Failed: *version* does not reach the thresholds, or lacks the tag with its digest.
            RegistryError: the registry does not give its metrics.
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
        """Return whether *version* needs no judgement: it serves, or it served before and none does now."""
        is_back = self._active.serving is None and kept is not None and kept.proven
        return is_back or self._active.serves(version)

    async def _judge(self, version: Version) -> Judgement:
        self._step("judge", version)
        if (fault := tag_fault(version, self._options)) is not None:
            raise Failed("provenance", fault, "untagged")
        judgement = await self._desired.judge(version)
        if judgement.failed:
            raise Failed("thresholds", "; ".join(judgement.failed))
        return judgement

    async def _fetch(self, version: Version) -> CachedVersion:
        began = time.monotonic()
        self._step("fetch", version)
        making = asyncio.create_task(self._part(version), name=f"make room for version {version.number}")
        try:
            part = await asyncio.shield(making)
            cached = [file for kept in self._cached.contents for file in kept.located()]
            files = await self._context.registries.fetch(version, part, self._progress.advance, cached)
            kept: CachedVersion = await in_thread(
                "keep a version", lambda: self._context.store.keep(version, files)
            )
        except FetchError as error:
            if error.is_of_disk:
                await in_thread("make room for a version", lambda: self._context.store.make_room(version))
                raise StoreError(f"cannot fetch version {version.number}: {error}") from error
            if error.is_of_version:
                await in_thread("clear up", lambda: self._context.store.discard(version))
                raise Failed(error.step, str(error), error.kind) from error
            at = error.store or version.registry
            because = Complaint(at, error.kind, str(error), retry_after=error.retry_after)
            raise self._desired.unmet(version, "files", because) from error
        finally:
            await asyncio.shield(self._release(version, making))
        self._desired.met()
        self._desired.note_signed(version)
        self._measures.phase("fetch", time.monotonic() - began)
        self._cached.add(kept)
        return kept

    async def _part(self, version: Version) -> Path:
        serving = self._active.serving
        spared = [serving.kept.version] if serving is not None else []
        store = self._context.store
        return await in_thread("make room for a version", lambda: store.part(version, *spared))

    async def _release(self, version: Version, making: asyncio.Task[Path]) -> None:
        """Remove the folder once it is there if no byte came, also after a cancellation."""
        await asyncio.wait({making})
        making.exception()  # retrieved for asyncio; the fetch has raised it already
        await in_thread("clear up", lambda: self._context.store.release(version))

    async def _set_aside(self) -> ActiveVersion | None:
        """Drain and unload the version in service if ``swap`` is ``replace``."""
        if self._options.swap != "replace" or (aside := self._active.take()) is None:
            return None
        self.has_set_aside = True
        self._step("drain", aside.kept.version)
        await aside.host.end(self._options.prediction.timeout)
        return aside

    async def _roll_back(self, aside: ActiveVersion) -> None:
        try:
            self._active.put(await self._verify(aside.kept))
        except (Failed, StoreError):
            self._context.probe.log.exception("rollback failed", extra=aside.kept.version.facts())

    async def _verify(self, kept: CachedVersion) -> ActiveVersion:
        """Load *kept* and return it once its canary has passed."""
        host = await self._load(kept)
        try:
            self._step("canary", kept.version)
            canary = await self._canary(host)
        except BaseException:  # also a cancellation: no process may be left behind
            await asyncio.shield(host.kill())
            raise
        if not canary.passed:
            await asyncio.shield(host.kill())
            raise Failed("canary", canary.reason, canary.kind or "error")
        moment = self._context.now()
        return ActiveVersion(kept, host, moment, canary, moment if canary.verified else None)

    async def _load(self, kept: CachedVersion) -> ModelHost:
        self._step("load", kept.version)
        store = self._context.store
        stamped, stamps = await in_thread("read the stamps of files", lambda: store.stamped(kept))
        try:
            probe = self._context.probe
            hidden = [probe.state_dir, *probe.private_paths()]
            host = await self._context.load(stamped, self._options, self._context.hosts, hidden=hidden)
        except LoadFailed as error:
            raise Failed("load", error.reason, error.kind) from error
        except OSError as error:
            raise StoreError.of(
                "start a process for the model", self._context.hosts.scratch, error
            ) from error
        if len(stamped.unchanged) < len(stamps.files):
            await self._note_comparison(stamped, stamps)
        return host

    async def _note_comparison(self, kept: CachedVersion, stamps: Stamps) -> None:
        """Note that the process has compared all files; without the note the next one compares them again."""
        try:
            await in_thread("keep the stamps of files", lambda: self._context.store.compared(kept, stamps))
        except StoreError as error:
            self._context.probe.log.warning("stamps not kept", extra={"reason": str(error)})

    async def _canary(self, host: ModelHost) -> CanaryResult:
        """Run the canary; run it again if it was slow, as a process' first prediction may be."""
        began = time.monotonic()
        limit = self._options.canary.timeout
        canary = await host.canary(max(WARM_UP, limit))
        if canary.passed and canary.seconds > limit:
            canary = await host.canary(limit)
        self._measures.canary_seconds.observe(canary.seconds)
        self._measures.phase("canary", time.monotonic() - began)
        return canary

    def _step(self, step: Doing, version: Version) -> None:
        self._progress.set(Progress(step, version.number, self._context.now()))
