"""The versions on their way into service, the wanted one and the one that served; what came of each."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any

from mlopsd.probe import ReloadRefused
from mlopsd.threads import in_thread
from mlopsd_probes.model.cache.files import StoreError
from mlopsd_probes.model.cache.versions import WRITE, CachedVersions
from mlopsd_probes.model.progress import Progress
from mlopsd_probes.model.rollout.backoff import FIRST_LATER, LONGEST_SOON, Backoff
from mlopsd_probes.model.rollout.context import RolloutContext
from mlopsd_probes.model.rollout.desired import DesiredVersion
from mlopsd_probes.model.rollout.problems import Problems
from mlopsd_probes.model.rollout.rejections import Rejections
from mlopsd_probes.model.rollout.restart import Restart
from mlopsd_probes.model.rollout.steps import Failed, Steps
from mlopsd_probes.model.rollout.tasks import TaskSet, is_over, wait
from mlopsd_probes.model.serving.active_model import ActiveModel, ActiveVersion
from mlopsd_probes.model.version import CachedVersion, Version
from mlopsd_probes.registry.registries import RegistryError

TAKE, RESTORE = "take up a version", "restore a version"

Obstacle = Callable[[CachedVersion | None, ActiveVersion | None], str | None]


@dataclass(slots=True)
class _Rollout:
    """A version that is being taken up.

    Attributes:
        is_named: a registry wants it; else it is taken up though none does.
        has_arrived: it serves; what follows is clearing up.
        given_up: why it is taken up no further.
    """

    version: Version
    is_named: bool
    task: asyncio.Task[str] | None = None
    has_arrived: bool = False
    given_up: str | None = None


class Rollouts:
    """At most one to take up a version that is wanted, and one to restore what served.

    *obstacle* says, given a version that is on disk or the one that serves, why none can be taken up now,
    and blocks. *show* shows progress; *changed* is told when an attempt has ended, *retry* when what served
    may be restored again.

    Attributes:
        refusals: what did not get through.
        restart: what served and does not any more.
        progress: what is going on; None when nothing is.
        obstacle: why the version that is wanted is not taken up for now.
    """

    def __init__(
        self,
        means: RolloutContext,
        wish: DesiredVersion,
        service: ActiveModel,
        stock: CachedVersions,
        *,
        errands: TaskSet,
        troubles: Problems,
        obstacle: Obstacle,
        show: Callable[[Progress | None], None],
        changed: Callable[[], None],
        retry: Callable[[], None],
    ) -> None:
        self._means = means
        self._wish = wish
        self._service = service
        self._stock = stock
        self._errands = errands
        self._troubles = troubles
        self._find_obstacle = obstacle
        self._show = show
        self._changed = changed
        self._retry = retry
        self._taking = Steps(
            means, wish, service, tell=self._tell, fetched=stock.add, mismatched=self._mismatched
        )
        self._pause = Backoff(longest=LONGEST_SOON)  # of what should serve
        self._pause_of_transfers = Backoff(first=FIRST_LATER)  # each attempt takes bytes from the store
        self._broken_off: str | None = None  # the version whose transfer failed last
        self._way: _Rollout | None = None
        self._restoring: asyncio.Task[None] | None = None
        self.refusals = Rejections(means.options.rejected_backoff, means.now)
        self.restart = Restart()
        self.progress: Progress | None = None
        self.obstacle: str | None = None

    @property
    def tasks(self) -> tuple[asyncio.Task[Any] | None, ...]:
        """Those that are running, and others."""
        return self._restoring, self._way.task if self._way is not None else None

    @property
    def are_under_way(self) -> bool:
        """Whether a version is on its way, a new one or the one that served."""
        return any(not is_over(task) for task in self.tasks)

    async def arrive(self) -> None:
        """Wait for the versions that are on their way, whatever becomes of them."""
        while self.are_under_way:
            await wait(self.tasks, None)

    def may_begin(self, version: Version) -> bool:
        """Whether *version* may be tried now: it was not refused, and what failed before was not just now."""
        if version.id == self._broken_off and not self._pause_of_transfers.may_try():
            return False
        return not self.refusals.holds(version) and self._pause.may_try()

    def begin(self, version: Version) -> None:
        """Take *version* up unless something on this host forbids it for now; nobody waits for it."""
        self._tell(Progress("judge", version.number, self._means.now()))
        self._set_out(version, self._take_if_clear)

    async def take(self, version: Version) -> str:
        """*version* serves, and the one before is gone; it goes on if nobody waits for it any more.

        Raises:
            Refused: it does not serve, and why; what served before still does.
        """
        return await asyncio.shield(self._set_out(version, self._take))

    async def rehearse(self, version: Version) -> str:
        """What taking *version* up would do.

        Raises:
            Refused: it would be refused, or cannot be judged.
        """
        try:
            return await self._taking.rehearse(
                version, self._stock.shelf.find(version), self._service.serving
            )
        except Failed as failure:
            raise ReloadRefused(f"version {version.number} would be rejected: {failure}") from failure
        except RegistryError as error:
            raise ReloadRefused(
                f"version {version.number} cannot be judged: {error.complaint.reason}"
            ) from error

    async def find_obstacle(self, version: Version) -> str | None:
        """Why *version* cannot be taken up now."""
        find = partial(self._find_obstacle, self._stock.shelf.find(version), self._service.serving)
        return await in_thread("look for obstacles", find)

    def give_up_for(self, desired: Version | None) -> None:
        """What is on its way though *desired* is wanted, or nothing; a fallback is no reason to."""
        way = self._way
        if way is None or way.task is None or way.task.done() or way.has_arrived or way.given_up is not None:
            return
        if desired is None and way.is_named:
            way.given_up = "no registry names it any more"
        elif desired is not None and way.version.id != desired.id and desired.rank <= way.version.rank:
            way.given_up = f"a registry names version {desired.number} now"
        if way.given_up is not None:
            way.task.cancel()

    def pause(self) -> None:
        """Something broke: wait before the next attempt, which need not wait for a check."""
        self._wait(self._pause)

    def restore(self) -> None:
        """Have what served serve again, where nothing does now and not because memory holds only one."""
        had = self.restart.first_of(self._stock.shelf)
        if had is None or self._service.serving is not None or self._taking.has_set_aside:
            return
        way = self._way
        is_on_its_way = way is not None and not is_over(way.task) and way.version.id == had.id
        if not is_on_its_way and is_over(self._restoring) and self.restart.may_try():
            self._restoring = self._errands.start(self._restore(had), RESTORE)

    def _set_out(
        self, version: Version, how: Callable[[_Rollout], Coroutine[Any, Any, str]]
    ) -> asyncio.Task[str]:
        desired = self._wish.desired
        self._way = way = _Rollout(version, is_named=desired is not None and desired.id == version.id)
        way.task = self._errands.start(how(way), TAKE)
        return way.task

    async def _take_if_clear(self, way: _Rollout) -> str:
        version = way.version
        try:
            if self._service.serving is not None:  # else there is nothing to lose by trying
                self.obstacle = await self.find_obstacle(version)
                if self.obstacle is not None:
                    return self.obstacle
            return await self._take(way)
        except ReloadRefused as refusal:
            self._means.log.warning(
                "version not taken up", extra={"version": version.number, "reason": str(refusal)}
            )
            return str(refusal)
        finally:
            self._tell(None)

    async def _take(self, way: _Rollout) -> str:
        self.obstacle = None
        version = way.version
        kept = self._stock.shelf.find(version)
        try:
            serving, before = await self._taking.take(version, kept)
            way.has_arrived = True
            return await self._settle(serving, before)
        except asyncio.CancelledError:
            raise self._end_of(way) from None
        except (Failed, StoreError, RegistryError) as error:
            raise ReloadRefused(self._note_failure(version, error)) from error
        finally:
            self._tell(None)
            self._changed()

    def _end_of(self, way: _Rollout) -> BaseException:
        """Why *way* was cancelled: it was given up, or all ends."""
        task = asyncio.current_task()
        if way.given_up is None or task is None or task.uncancel():
            return asyncio.CancelledError()
        self._means.measures.loads.inc(result="given_up")
        return ReloadRefused(f"version {way.version.number} is not taken up: {way.given_up}")

    def _note_failure(self, version: Version, error: Failed | StoreError | RegistryError) -> str:
        if isinstance(error, Failed):
            return self._hold_back(version, error)
        if isinstance(error, StoreError):
            self.pause()
            self._troubles.note(TAKE, str(error))
            self._means.measures.loads.inc(result="no_room")
            return f"version {version.number} cannot be kept: {error}"
        self._wait(self._pause_after(version))
        self._means.measures.loads.inc(result="registry")
        return f"version {version.number} is not taken up: {error.complaint.reason}"

    def _pause_after(self, version: Version) -> Backoff:
        """Return the pause that *version* is due, for which no registry gave the metrics or files."""
        if not self._has_transferred():
            return self._pause
        if version.id != self._broken_off:
            self._pause_of_transfers.forget()
            self._broken_off = version.id
        return self._pause_of_transfers

    def _has_transferred(self) -> bool:
        """Return whether bytes of files came before the fetch that is in progress failed."""
        progress = self.progress
        return progress is not None and progress.step == "fetch" and bool(progress.bytes)

    def _wait(self, pause: Backoff) -> None:
        pause.failed()
        self._errands.later(pause.left(), self._retry)

    def _hold_back(self, version: Version, failure: Failed) -> str:
        self._means.measures.loads.inc(result=failure.step)
        if failure.is_corrupt and (kept := self._stock.shelf.find(version)) is not None:
            self._stock.drop(kept)
        refusal = self.refusals.refuse(version, failure.step, str(failure), failure.cause)
        if not refusal.is_refused:
            self._errands.later(refusal.backoff, self._retry)
        return f"{refusal.what}: {failure}"

    async def _settle(self, serving: ActiveVersion, before: ActiveVersion | None) -> str:
        """*serving* answers; let the one before finish, and the disk forget what is older."""
        version = serving.kept.version
        self.refusals.pardon(version)
        self._pause.forget()
        self._pause_of_transfers.forget()
        self._in_service(serving)
        if before is not None:
            self._tell(Progress("drain", before.kept.version.number, self._means.now()))
            await before.host.end(self._means.options.prediction.timeout)
        await self._stock.write_down()
        return f"version {version.number} ({version.candidate}) serves{_instead_of(version, before)}"

    async def _restore(self, version: Version) -> None:
        """Have *version*, which served before, serve again; the waits grow while that fails."""
        kept = self._stock.shelf.find(version)
        assert kept is not None
        try:
            if (serving := await self._taking.restore(kept)) is not None:
                self._in_service(serving)
                await self._stock.write_down()
        except (Failed, StoreError) as error:
            self._note_stumble(kept, error)
        finally:
            self._tell(None)
            self._changed()

    def _note_stumble(self, kept: CachedVersion, error: Failed | StoreError) -> None:
        number = kept.version.number
        self._means.measures.loads.inc(result=error.step if isinstance(error, Failed) else "no_room")
        self._means.log.warning("version not restored", extra={"version": number, "reason": str(error)})
        if isinstance(error, StoreError):
            self._troubles.note(RESTORE, str(error))
        elif error.is_corrupt:
            self._stock.drop(kept)
        cause = error.cause if isinstance(error, Failed) else None
        self.restart.failed(kept.version, str(error), cause)
        self._errands.later(self.restart.left(), self._retry)

    def _in_service(self, serving: ActiveVersion) -> None:
        version = serving.kept.version
        self._means.measures.loads.inc(result="ok")
        self.restart.is_over(version)
        self._troubles.forget(TAKE, RESTORE)
        self._stock.owe(serving)
        self._changed()
        self._means.log.info(
            "version in service",
            extra={"version": version.number, "candidate": version.candidate, "registry": version.registry},
        )

    def _mismatched(self, version: Version) -> None:
        """Join no requests of *version* any more, whichever process of it answers them."""
        self._means.mismatches.add(version.id)
        self._means.measures.batching_mismatches.inc()
        self._means.log.warning("batching mismatch", extra={"version": version.number})
        self._errands.start(self._stock.write_down(), WRITE)
        self._changed()

    def _tell(self, progress: Progress | None) -> None:
        self.progress = progress
        self._show(progress)


def _instead_of(version: Version, before: ActiveVersion | None) -> str:
    if before is None:
        return ""
    if before.kept.version.id == version.id:
        return " anew"
    return f" instead of {before.kept.version.number}"
