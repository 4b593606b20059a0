"""The life of versions on this host: what is wanted, what is taken up, what serves, what is let go."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from datetime import datetime
from shutil import rmtree
from typing import Any

from mlopsd.probe import Refused
from mlopsd.threads import in_thread
from mlopsd_probes.model.backoff import Backoff
from mlopsd_probes.model.means import Means
from mlopsd_probes.model.progress import Progress
from mlopsd_probes.model.refusals import Refusal, Refusals
from mlopsd_probes.model.registry import Complaint, RegistryError, Resolution
from mlopsd_probes.model.service import Service, Serving
from mlopsd_probes.model.store import Shelf, StoreError
from mlopsd_probes.model.taking import Failed, Taking
from mlopsd_probes.model.version import Kept, Version

RESOLVE_PATIENCE = 8.0  # seconds that a check waits for registries; what takes longer is told by the next
LOOK_AGAIN = 1.0  # seconds after a loss: a second reading, so that the damping does not hide it


@dataclass(frozen=True, slots=True)
class State:
    """All that a reading is made of, at one moment.

    Attributes:
        desired: the version that the registry wants here; None while none is known.
        held_back: a fallback that is not taken because a proven version serves.
        complaints: what registries said instead of an answer.
        reached_at: when a registry last answered.
        drift_since: since when *desired* is not what serves.
        missing: metrics with a threshold that *desired* never logged.
        lost: how the last host ended, while no version is in service.
        obstacle: why a version is not taken up for now.
        trouble: what the disk of the cache complains of.
        restarts: hosts that died or hung.
        rss: resident bytes of the host.
    """

    now: datetime
    desired: Version | None
    serving: Serving | None
    held_back: Version | None
    complaints: tuple[Complaint, ...]
    reached_at: datetime | None
    drift_since: datetime | None
    refusals: tuple[Refusal, ...]
    progress: Progress | None
    missing: tuple[str, ...]
    lost: str | None
    obstacle: str | None
    trouble: str | None
    restarts: int
    rss: int | None


class Life:
    """Decides, and holds one version in service and at most one on its way there.

    *again* asks for a check soon, *show* shows progress until the next; *obstacle* says, given a version
    that is on disk or the one that serves, why none can be taken up now, and blocks.
    """

    def __init__(
        self,
        means: Means,
        *,
        again: Callable[[], None],
        show: Callable[[Progress | None], None],
        obstacle: Callable[[Kept | None, Serving | None], str | None],
    ) -> None:
        self._means = means
        self._options = means.options
        self._again = again
        self._show = show
        self._find_obstacle = obstacle
        self.service = Service(
            means.options.prediction, means.measures, means.log, self._why_none, self._lost
        )
        self._taking = Taking(means, self._tell)
        self._refusals = Refusals(means.options.refused_backoff, means.now)
        self._restart = Backoff()
        self._stumbles: Counter[str] = (
            Counter()
        )  # how often a version that was proven did not load, by its id
        self._shelf: Shelf | None = None
        self._resolving: asyncio.Task[None] | None = None
        self._on_the_way: asyncio.Task[str] | None = None
        self._timers: set[asyncio.TimerHandle] = set()
        self._desired: Version | None = None
        self._held_back: Version | None = None
        self._complaints: tuple[Complaint, ...] = ()
        self._reached_at: datetime | None = None
        self._drift_since: datetime | None = None
        self._progress: Progress | None = None
        self._missing: tuple[str, ...] = ()
        self._how_lost: str | None = None
        self._obstacle: str | None = None
        self._trouble: str | None = None
        self._restarts = 0
        self._closed = False

    async def look(self) -> None:
        """Ask the registries, have the version in service prove itself, and act on both."""
        await self._open()
        if self.service.serving is None:
            self._decide()  # what is on disk need not wait for a registry
        if self._resolving is None or self._resolving.done():
            self._resolving = self._start(self._resolve(), "resolve")
        await asyncio.gather(asyncio.wait({self._resolving}, timeout=RESOLVE_PATIENCE), self._prove())
        self._decide()

    async def reload(self, *, dry_run: bool, force: bool) -> str:
        """Go to the version that the registry names now; what was done, or with *dry_run* would be.

        A version that is on its way already is waited for.

        Raises:
            Refused: it is not done, and why.
        """
        await self._open()
        if self.is_busy and dry_run:
            raise Refused(self._progress.sentence() if self._progress else "a version is on its way")
        await self._arrive()
        await self._resolve()
        await self._arrive()  # what a check has set out for meanwhile
        if (wanted := self._desired) is None:
            raise Refused(f"no registry names a version: {self._complaint_text()}")
        serving = self.service.serving
        if serving is not None and serving.kept.version.id == wanted.id and not force:
            return await self._prove_again(serving, dry_run=dry_run)
        kept = self._kept(wanted)
        obstacle = await in_thread("look for obstacles", lambda: self._find_obstacle(kept, serving))
        if obstacle is not None and not force:
            raise Refused(f"version {wanted.number} is not taken up: {obstacle}; ?force=true does it anyway")
        if dry_run:
            return await self._rehearse(wanted, kept, serving)
        self._refusals.pardon(wanted)
        if self.is_busy:
            raise Refused("a version is on its way; ask again")
        self._on_the_way = self._start(self._take(wanted), "take up a version")
        return await asyncio.shield(self._on_the_way)

    async def _arrive(self) -> None:
        """Wait for the version that is on its way, whatever becomes of it."""
        if self._on_the_way is not None:
            await asyncio.wait({self._on_the_way})

    async def state(self) -> State:
        """How things stand."""
        serving = self.service.serving
        return State(
            now=self._means.now(),
            desired=self._desired,
            serving=serving,
            held_back=self._held_back,
            complaints=self._complaints,
            reached_at=self._reached_at,
            drift_since=self._drift_since,
            refusals=tuple(self._refusals),
            progress=self._progress,
            missing=self._missing,
            lost=self._how_lost,
            obstacle=self._obstacle,
            trouble=self._trouble,
            restarts=self._restarts,
            rss=None if serving is None else await serving.host.rss(),
        )

    async def close(self) -> None:
        """End every process and task at once."""
        self._closed = True
        for timer in self._timers:
            timer.cancel()
        tasks = [task for task in (self._resolving, self._on_the_way) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(self.service.close(), self._means.registries.close())
        if tasks:
            await asyncio.wait(tasks, timeout=0.1)

    async def _open(self) -> None:
        """See once what is on disk, and remove what processes of a daemon that was killed have left."""
        if self._shelf is None:
            await in_thread(
                "clear up the scratch folder", lambda: rmtree(self._means.scratch, ignore_errors=True)
            )
            try:
                self._shelf = await in_thread("read the model cache", self._means.store.load)
                for reason in self._shelf.broken:
                    self._means.log.warning("files of a model were of no use", extra={"reason": reason})
            except StoreError as error:
                self._trouble = str(error)
                self._shelf = Shelf()

    async def _resolve(self) -> None:
        resolution = await self._means.registries.resolve()
        self._complaints = resolution.complaints
        if resolution.found is None:
            return
        self._reached_at = self._means.now()
        self._want(resolution)

    def _want(self, resolution: Resolution) -> None:
        """Take note of what a registry wants; a fallback never replaces what serves and was better named."""
        found, serving = resolution.found, self.service.serving
        assert found is not None
        holds = (
            serving is not None and serving.proven_at is not None and _rank(found) > _rank(_named(serving))
        )
        self._held_back = found if holds else None
        if holds and serving is not None:
            self._desired = _named(serving)
            self._note_drift()
            return
        self._desired = found
        if serving is not None and serving.kept.version.id == found.id:
            self.service.rename(found)
        self._refusals.keep_only(found)
        self._note_drift()

    def _note_drift(self) -> None:
        serving = self.service.serving
        same = (
            serving is not None and self._desired is not None and serving.kept.version.id == self._desired.id
        )
        if self._desired is None or same:
            self._drift_since = None
        elif self._drift_since is None:
            self._drift_since = self._means.now()

    async def _prove(self) -> None:
        """The canary of the version in service, at every check."""
        if (serving := self.service.serving) is None:
            return
        canary = await serving.host.canary(self._options.canary.timeout)
        self._means.measures.canary_seconds.observe(canary.seconds)
        self.service.proven(serving.host, canary, self._means.now())
        if serving.host.hung:
            self.service.suspect(serving)

    async def _prove_again(self, serving: Serving, *, dry_run: bool) -> str:
        number = serving.kept.version.number
        if dry_run:
            return f"version {number} serves and is what the registry names; it would prove itself again"
        await self._prove()
        after = self.service.serving
        if after is None or not after.canary.passed:
            why = after.canary.reason if after is not None else "its host is gone"
            raise Refused(
                f"version {number} serves and is what the registry names, but failed its canary: {why}"
            )
        return f"version {number} serves and is what the registry names; it proved itself again"

    async def _rehearse(self, wanted: Version, kept: Kept | None, serving: Serving | None) -> str:
        try:
            return await self._taking.rehearse(wanted, kept, serving)
        except Failed as failure:
            raise Refused(f"version {wanted.number} would be refused: {failure}") from failure
        except RegistryError as error:
            raise Refused(f"version {wanted.number} cannot be judged: {error.complaint.reason}") from error

    def _decide(self) -> None:
        """Set out for the version that should serve next, if there is one and nothing is on its way."""
        if self._closed or self.is_busy:
            return
        if (target := self._next()) is not None:
            self._tell(Progress("judge", target.number, self._means.now()))
            self._on_the_way = self._start(self._go(target), "take up a version")

    def _next(self) -> Version | None:
        serving, wanted = self.service.serving, self._desired
        if not self._restart.may_try():
            return None
        if serving is None and (had := self._had()) is not None:
            return had
        if wanted is None or self._refusals.holds(wanted):
            return None
        if serving is None or serving.kept.version.id != wanted.id or self._has_expired(serving):
            return wanted
        return None

    def _had(self) -> Version | None:
        """The version to begin with from disk: the current one, or where that fails the one before."""
        shelf = self._shelf or Shelf()
        proven = [
            kept.version for kept in (shelf.current, shelf.previous) if kept is not None and kept.proven
        ]
        return min(proven, key=lambda version: self._stumbles[version.id], default=None)

    def _has_expired(self, serving: Serving) -> bool:
        """Whether the version in service is to be loaded anew because its time is over."""
        age = (self._means.now() - serving.since).total_seconds()
        return self._options.on_expiry == "reload" and age > self._options.cache_ttl

    async def _go(self, version: Version) -> str:
        """Take up *version* unless something on this host forbids it for now; nobody waits for it."""
        kept, serving = self._kept(version), self.service.serving
        if serving is not None:  # else there is nothing to lose by trying
            self._obstacle = await in_thread("look for obstacles", lambda: self._find_obstacle(kept, serving))
            if self._obstacle is not None:
                self._tell(None)
                return self._obstacle
        try:
            return await self._take(version)
        except Refused as refusal:
            self._means.log.warning(
                "version not taken up", extra={"version": version.number, "reason": str(refusal)}
            )
            return str(refusal)

    async def _take(self, version: Version) -> str:
        """Take up *version*: when this returns it serves, and the one before is gone.

        Raises:
            Refused: it does not serve, and why; what served before still does.
        """
        self._obstacle = None
        before = self.service.serving
        try:
            serving, self._missing = await self._taking.take(version, self._kept(version), self.service)
        except Failed as failure:
            self._note_failure(version, failure)
            raise Refused(f"version {version.number} was refused: {failure}") from failure
        except StoreError as error:
            self._trouble = str(error)
            self._means.measures.loads.inc(result="no_room")
            self._restart.failed()
            raise Refused(f"version {version.number} cannot be kept: {error}") from error
        except RegistryError as error:
            self._complaints = (*self._complaints, error.complaint)
            self._restart.failed()
            self._means.measures.loads.inc(result="registry")
            raise Refused(f"version {version.number} cannot be judged: {error.complaint.reason}") from error
        else:
            return await self._settle(serving, before)
        finally:
            self._tell(None)
            self._note_drift()
            self._again()

    async def _settle(self, serving: Serving, before: Serving | None) -> str:
        """*serving* answers; let the one before finish, and the disk forget what is older."""
        version = serving.kept.version
        self._means.measures.loads.inc(result="ok")
        self._refusals.pardon(version)
        self._stumbles.pop(version.id, None)
        self._restart.succeeded()
        self._how_lost = self._trouble = None
        self._note_drift()
        self._again()
        if before is not None:
            self._tell(Progress("drain", before.kept.version.number, self._means.now()))
            await before.host.end(self._options.prediction.timeout)
        load_bytes = await serving.host.rss()
        try:
            self._shelf = await in_thread(
                "keep the version", lambda: self._taking.choose(serving, load_bytes)
            )
        except StoreError as error:
            self._trouble = str(error)
        whence = _instead_of(version, before)
        self._means.log.info(
            "version in service",
            extra={"version": version.number, "candidate": version.candidate, "registry": version.registry},
        )
        return f"version {version.number} ({version.candidate}) serves{whence}"

    def _note_failure(self, version: Version, failure: Failed) -> None:
        kept = self._kept(version)
        self._means.measures.loads.inc(result=failure.step)
        if failure.is_corrupt and kept is not None and self._shelf is not None:
            self._shelf = self._shelf.without(kept)  # it is fetched anew
            return
        if kept is not None and kept.proven and self.service.serving is None:
            self._stumbles[version.id] += 1
            self._restart.failed()
            self._how_lost = f"version {version.number}, which served before: {failure}"
            self._later(self._restart.left())
        else:
            self._refusals.refuse(version, failure.step, str(failure))

    def _lost(self, serving: Serving, reason: str, how: str) -> None:
        """The host in service is gone: take the same version up again from disk, and say so twice."""
        self.service.take()
        self._restarts += 1
        self._how_lost = f"the host of version {serving.kept.version.number} is lost: {how}"
        self._means.log.error(
            "model host lost", extra={"version": serving.kept.version.number, "reason": reason, "how": how}
        )
        self._restart.lost()
        self._note_drift()
        self._later(self._restart.left())
        self._again()
        self._call_later(LOOK_AGAIN, self._again)

    def _later(self, seconds: float) -> None:
        self._call_later(seconds, self._decide)

    def _call_later(self, seconds: float, call: Callable[[], None]) -> None:
        timers = {
            timer for timer in self._timers if not timer.cancelled() and timer.when() > time.monotonic()
        }
        timers.add(asyncio.get_running_loop().call_later(seconds, call))
        self._timers = timers

    def _start(self, work: Coroutine[Any, Any, Any], what: str) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work, name=f"{what} of {self._options.model}")
        task.add_done_callback(self._tell_fault)
        return task

    def _tell_fault(self, task: asyncio.Task[Any]) -> None:
        """What ends here by another exception than a refusal is a fault of ours."""
        if not task.cancelled() and (error := task.exception()) and not isinstance(error, Refused):
            self._trouble = f"{task.get_name()} broke: {type(error).__name__}: {error}"
            self._means.log.error(
                "the life of the model broke", exc_info=error, extra={"task": task.get_name()}
            )
            self._restart.failed()
            self._again()

    @property
    def is_busy(self) -> bool:
        """Whether a version is on its way."""
        return self._on_the_way is not None and not self._on_the_way.done()

    def _kept(self, version: Version) -> Kept | None:
        shelf = self._shelf or Shelf()
        for kept in (shelf.current, shelf.previous, *shelf.others):
            if kept is not None and kept.version.id == version.id:
                return replace(kept, version=version)
        return None

    def _tell(self, progress: Progress | None) -> None:
        self._progress = progress
        self._show(progress)

    def _why_none(self) -> str:
        if self._progress is not None:
            return self._progress.sentence()
        refused = next(iter(self._refusals), None)
        if refused is not None:
            return f"version {refused.version.number} was refused ({refused.step})"
        return self._how_lost or self._complaint_text()

    def _complaint_text(self) -> str:
        return (
            "; ".join(f"{one.registry}: {one.reason}" for one in self._complaints) or "nothing was found yet"
        )


def _instead_of(version: Version, before: Serving | None) -> str:
    if before is None:
        return ""
    if before.kept.version.id == version.id:
        return " anew"
    return f" instead of {before.kept.version.number}"


def _rank(version: Version) -> tuple[int, int]:
    return version.registry_rank, version.candidate_rank


def _named(serving: Serving) -> Version:
    return serving.kept.version
