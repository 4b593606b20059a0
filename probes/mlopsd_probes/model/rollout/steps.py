"""The way of a version into service, step by step: judge, fetch, load, canary, swap."""

import asyncio
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from mlopsd.threads import in_thread
from mlopsd_probes.causes import Cause, Step, cause_of
from mlopsd_probes.model.cache.files import StoreError
from mlopsd_probes.model.progress import Doing, Progress
from mlopsd_probes.model.rollout.context import RolloutContext
from mlopsd_probes.model.rollout.desired import DesiredVersion
from mlopsd_probes.model.rollout.thresholds import Judgement
from mlopsd_probes.model.serving.active_model import ActiveModel, ActiveVersion
from mlopsd_probes.model.serving.canary import CanaryResult
from mlopsd_probes.model.serving.host import LoadFailed, ModelHost
from mlopsd_probes.model.version import CachedVersion, Version
from mlopsd_probes.registry.registries import FetchError

WARM_UP = 60.0  # seconds for the very first prediction, which may compile or fill a GPU
SHOWN_EVERY = 0.5  # seconds between two shows of how far a fetch is


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
        """Whether the files on disk are not what was fetched."""
        return self.kind == "corrupt"


class Steps:
    """Takes up versions; *tell* is told of each step, *fetched* of each version that has come to the disk.
    *mismatched* is told of a version that answers joined requests otherwise than single ones.

    Attributes:
        has_set_aside: whether what served went before the next one was there, so that nothing serves
            on purpose.
    """

    def __init__(
        self,
        means: RolloutContext,
        wish: DesiredVersion,
        service: ActiveModel,
        *,
        tell: Callable[[Progress | None], None],
        fetched: Callable[[CachedVersion], None],
        mismatched: Callable[[Version], None],
    ) -> None:
        self._means = means
        self._options = means.options
        self._wish = wish
        self._service = service
        self._tell = tell
        self._fetched = fetched
        self._mismatched = mismatched
        self.has_set_aside = False

    async def take(
        self, version: Version, kept: CachedVersion | None
    ) -> tuple[ActiveVersion, ActiveVersion | None]:
        """*version* in service, and what it took the place of.

        What served before is out of service but still answers what it was asked, unless ``swap`` is
        ``replace``. When this raises, what served before serves.

        Raises:
            Failed: it did not get through a step.
            RegistryError: its metrics or its files cannot be had.
            StoreError: the disk will not have it.
        """
        if not self._serves_on(version, kept):
            await self._judge(version)
        if kept is None:
            kept = await self._fetch(version)
        aside = None
        try:
            aside = await self._set_aside()
            serving = await self._prove(kept)
        except (Failed, StoreError):
            if aside is not None:
                await self._bring_back(aside)
            raise
        finally:
            self.has_set_aside = False
        self._step("swap", version)
        return serving, self._service.put(serving)

    async def restore(self, kept: CachedVersion) -> ActiveVersion | None:
        """*kept*, which proved itself before, in service again; None if another version got there first.

        It is not judged: what serves on must not depend on a registry.

        Raises:
            Failed: it did not get through a step.
            StoreError: the disk will not have its process.
        """
        serving = await self._prove(kept)
        if self._service.serving is not None:
            await serving.host.kill()
            return None
        self._service.put(serving)
        return serving

    async def rehearse(
        self, version: Version, kept: CachedVersion | None, serving: ActiveVersion | None
    ) -> str:
        """What taking *version* up would do.

        Raises:
            Failed: it does not reach the thresholds.
            RegistryError: its metrics cannot be had.
        """
        try:
            missing = (await self._judge(version)).missing
        finally:
            self._tell(None)
        fetch = "is on disk already" if kept is not None else "would be fetched"
        instead = f"; version {serving.kept.version.number} serves until then" if serving is not None else ""
        unjudged = f"; never logged: {', '.join(missing)}" if missing else ""
        reached = "reaches the thresholds" if self._options.thresholds else "has no thresholds to reach"
        return f"version {version.number} ({version.candidate}) {reached}{unjudged}, and {fetch}{instead}"

    def _serves_on(self, version: Version, kept: CachedVersion | None) -> bool:
        """Whether *version* is what serves, or has proven itself and nothing serves: loaded, not judged."""
        is_back = self._service.serving is None and kept is not None and kept.proven
        return is_back or self._service.serves(version)

    async def _judge(self, version: Version) -> Judgement:
        self._step("judge", version)
        judgement = await self._wish.judge(version)
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
            files = await self._means.registries.fetch(version, part, show)
            kept: CachedVersion = await in_thread(
                "keep a version", lambda: self._means.store.keep(version, files)
            )
        except FetchError as error:
            if error.is_of_disk:
                raise StoreError(f"cannot fetch version {version.number}: {error}") from error
            if error.is_of_version:
                raise Failed("fetch", str(error), error.kind) from error
            raise self._wish.unmet(version, "files", error.kind, str(error)) from error
        finally:
            await asyncio.shield(self._discard(version, making))
        self._wish.met()
        self._means.measures.phase("fetch", time.monotonic() - began)
        self._fetched(kept)
        return kept

    async def _part(self, version: Version) -> Path:
        serving = self._service.serving
        spared = [serving.kept.version] if serving is not None else []
        store = self._means.store
        return await in_thread("make room for a version", lambda: store.part(version, *spared))

    async def _discard(self, version: Version, making: asyncio.Task[Path]) -> None:
        """Clear up, when what was being made is there, whoever has stopped waiting for it."""
        await asyncio.wait({making})
        making.exception()  # which was told to whoever waited
        await in_thread("clear up", lambda: self._means.store.discard(version))

    async def _set_aside(self) -> ActiveVersion | None:
        """Where memory holds only one version: let the one in service finish and go."""
        if self._options.swap != "replace" or (aside := self._service.take()) is None:
            return None
        self.has_set_aside = True
        self._step("drain", aside.kept.version)
        await aside.host.end(self._options.prediction.timeout)
        return aside

    async def _bring_back(self, aside: ActiveVersion) -> None:
        try:
            self._service.put(await self._prove(aside.kept))
        except (Failed, StoreError):
            self._means.log.exception(
                "cannot bring back the version before", extra=aside.kept.version.facts()
            )

    async def _prove(self, kept: CachedVersion) -> ActiveVersion:
        """*kept* loaded, its canary passed."""
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
        moment = self._means.now()
        return ActiveVersion(kept, host, moment, canary, moment if canary.verified else None)

    async def _load(self, kept: CachedVersion) -> ModelHost:
        self._step("load", kept.version)
        try:
            return await self._means.load(
                kept,
                self._options,
                self._means.log,
                scratch=self._means.scratch,
                hidden=[self._means.state_dir, *self._means.private()],
                phase=self._means.measures.phase,
                observe=self._service.observe,
                mismatched=kept.version.id in self._means.mismatches,
                on_mismatch=partial(self._mismatched, kept.version),
            )
        except LoadFailed as error:
            raise Failed("load", error.reason, error.kind) from error
        except OSError as error:
            raise StoreError.of("start a process for the model", self._means.scratch, error) from error

    async def _canary(self, host: ModelHost) -> CanaryResult:
        """Twice where the first was slow, which the first prediction of a process may be."""
        began = time.monotonic()
        limit = self._options.canary.timeout
        canary = await host.canary(max(WARM_UP, limit))
        if canary.passed and canary.seconds > limit:
            canary = await host.canary(limit)
        self._means.measures.canary_seconds.observe(canary.seconds)
        self._means.measures.phase("canary", time.monotonic() - began)
        return canary

    def _step(self, step: Doing, version: Version, size: int | None = None, total: int | None = None) -> None:
        self._tell(Progress(step, version.number, self._means.now(), size, total))


class _Throttle:
    """Passes on how far a fetch is, now and then."""

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
