"""The life of versions on this host: what is wanted, what is taken up, what serves, what is let go."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from shutil import rmtree
from typing import Any

from mlopsd.probe import Refused
from mlopsd.threads import in_thread
from mlopsd_probes.model.backoff import Backoff
from mlopsd_probes.model.disk import StoreError
from mlopsd_probes.model.errands import Errands, is_over, wait
from mlopsd_probes.model.means import Means
from mlopsd_probes.model.progress import Progress
from mlopsd_probes.model.refusals import Refusals
from mlopsd_probes.model.registry import RegistryError
from mlopsd_probes.model.restart import Restart
from mlopsd_probes.model.service import Service, Serving
from mlopsd_probes.model.shelf import Shelf
from mlopsd_probes.model.state import State
from mlopsd_probes.model.taking import Failed, Taking
from mlopsd_probes.model.troubles import Troubles
from mlopsd_probes.model.version import Kept, Version
from mlopsd_probes.model.wish import Wish

RESOLVE_PATIENCE = 8.0  # seconds that a check waits for registries; what takes longer is told by the next
LOOK_AGAIN = 1.0  # seconds after a loss: a second reading, so that the damping does not hide it
FOR_REGISTRIES, FOR_A_CANARY = 0.6, 0.8  # of a check's timeout, at most

RESOLVE, PROVE, TAKE, RESTORE = "resolve", "prove", "take up a version", "restore a version"
OPEN, WRITE = "read the cache", "write the cache"

Obstacle = Callable[[Kept | None, Serving | None], str | None]


@dataclass(slots=True)
class _Way:
    """A version that is being taken up because a registry wants it.

    Attributes:
        has_arrived: it serves; what follows is clearing up.
        instead: what the registry wants instead by now; the way is given up for it.
    """

    version: Version
    task: asyncio.Task[str] | None = None
    has_arrived: bool = False
    instead: Version | None = None


class Life:
    """Decides, and holds one version in service and at most one on its way there.

    *again* asks for a check soon, *show* shows progress until the next; *obstacle* says, given a version
    that is on disk or the one that serves, why none can be taken up now, and blocks. A check may take
    *timeout* seconds.
    """

    def __init__(
        self,
        means: Means,
        *,
        again: Callable[[], None],
        show: Callable[[Progress | None], None],
        obstacle: Obstacle,
        timeout: float,
    ) -> None:
        self._means = means
        self._options = means.options
        self._again = again
        self._show = show
        self._find_obstacle = obstacle
        self._timeout = timeout
        self.service = Service(
            means.options.prediction, means.measures, means.log, self._why_none, self._lost
        )
        self._wish = Wish(means)
        self._taking = Taking(means, self._wish, self.service, tell=self._tell, fetched=self._fetched)
        self._refusals = Refusals(means.options.refused_backoff, means.now)
        self._restart = Restart()
        self._retry = Backoff()  # of what should serve
        self._shelf = Shelf()
        self._unwritten: Serving | None = None  # in service, and not noted on disk yet
        self._errands = Errands(means.options.model, means.log, self._broke)
        self._opening: asyncio.Task[None] | None = None
        self._resolving: asyncio.Task[Any] | None = None
        self._proving: asyncio.Task[None] | None = None
        self._restoring: asyncio.Task[None] | None = None
        self._way: _Way | None = None
        self._drift_since: datetime | None = None
        self._progress: Progress | None = None
        self._obstacle: str | None = None
        self._troubles = Troubles()
        self._inherited: Serving | None = None  # it was loaded as another table said
        self._closed = False

    def inherit(self, before: "Life") -> None:
        """Go on with what serves in *before*, under a table of our own; it is to be loaded anew by that."""
        self._restart.times = before._restart.times
        if (serving := before.service.take()) is not None:
            self._inherited = serving
            self.service.put(serving)

    async def look(self) -> None:
        """Ask the registries, have the version in service prove itself, and act on both."""
        await self._open()
        await self._write_down()
        if self.service.serving is None:
            self._decide()  # what is on disk need not wait for a registry
        if is_over(self._resolving):
            self._resolving = self._errands.start(self._resolve(), RESOLVE)
        if is_over(self._proving):
            self._proving = self._errands.start(self._prove(), PROVE)
        await asyncio.gather(
            wait([self._resolving], min(RESOLVE_PATIENCE, FOR_REGISTRIES * self._timeout)),
            wait([self._proving], FOR_A_CANARY * self._timeout),
        )
        for late in (self._resolving, self._proving):
            if late is not None and not late.done():  # the next beat may be an hour away
                late.add_done_callback(self._tell_late)
        self._decide()

    def _tell_late(self, _: asyncio.Task[Any]) -> None:
        if not self._closed:
            self._again()

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
        found = await self._resolve()
        await self._arrive()  # what a check has set out for meanwhile
        wanted = self._to_reload(found, force=force)
        serving = self.service.serving
        stays = (
            serving is not None and serving.kept.version.id == wanted.id and not self._is_outdated(serving)
        )
        if serving is not None and stays and not force:
            return await self._prove_again(serving, found, dry_run=dry_run)
        kept = self._shelf.find(wanted)
        obstacle = await in_thread("look for obstacles", lambda: self._find_obstacle(kept, serving))
        if obstacle is not None and not force:
            raise Refused(f"version {wanted.number} is not taken up: {obstacle}; ?force=true does it anyway")
        if dry_run:
            return await self._rehearse(wanted, kept, serving)
        self._refusals.pardon(wanted)
        if self.is_busy:
            raise Refused("a version is on its way; ask again")
        return await asyncio.shield(self._set_out(wanted, self._take))

    def _to_reload(self, found: Version | None, *, force: bool) -> Version:
        """The version that a reload is about, of which the registries named *found*.

        Raises:
            Refused: they named none, and nothing that was named before is to be taken up.
        """
        if found is not None and self._wish.desired is not None:
            return self._wish.desired
        if (serving := self.service.serving) is not None:
            known = serving.kept.version if force else None
        else:
            known = self._wish.desired or self._restart.first_of(self._shelf)
        if known is None:
            raise Refused(f"no registry names a version: {self._wish.complaint_text()}")
        return known

    async def state(self) -> State:
        """How things stand."""
        serving = self.service.serving
        return State(
            now=self._means.now(),
            desired=self._wish.desired,
            serving=serving,
            held_back=self._wish.held_back,
            complaints=self._wish.complaints,
            reached_at=self._wish.reached_at,
            drift_since=self._drift_since,
            refusals=tuple(self._refusals),
            progress=self._progress,
            judgement=None if serving is None else self._wish.judgement(serving.kept.version),
            lost=self._restart.how_lost,
            obstacle=self._obstacle,
            trouble=self._troubles.text(),
            restarts=self._restart.times,
            is_outdated=self._is_outdated(serving),
            rss=None if serving is None else await serving.host.rss(),
        )

    async def close(self) -> None:
        """End every process and task at once."""
        self._closed = True
        self._errands.close()
        tasks = [self._opening, self._resolving, self._proving, *self._on_the_way()]
        for task in tasks:
            if task is not None:
                task.cancel()
        await asyncio.gather(self.service.close(), self._means.registries.close())
        await wait(tasks, 0.1)

    @property
    def is_busy(self) -> bool:
        """Whether a version is on its way, a new one or the one that served."""
        return any(not is_over(task) for task in self._on_the_way())

    def _on_the_way(self) -> tuple[asyncio.Task[Any] | None, ...]:
        return self._restoring, self._way.task if self._way is not None else None

    async def _arrive(self) -> None:
        """Wait for the versions that are on their way, whatever becomes of them."""
        while self.is_busy:
            await wait(self._on_the_way(), None)

    async def _open(self) -> None:
        """See once what is on disk, and remove what processes of a daemon that was killed have left."""
        if self._opening is None:
            self._opening = self._errands.start(self._do_open(), OPEN)
        await asyncio.shield(self._opening)

    async def _do_open(self) -> None:
        if self._inherited is None:  # else there are folders in use
            scratch = self._means.scratch
            await in_thread("clear up the scratch folder", lambda: rmtree(scratch, ignore_errors=True))
        try:
            found = await in_thread("read the model cache", self._means.store.load)
        except StoreError as error:
            self._troubles.note(OPEN, str(error))
            return
        self._shelf = found.ranked(self._options)
        for reason in found.broken:
            self._means.log.warning("files of a model were of no use", extra={"reason": reason})

    async def _resolve(self) -> Version | None:
        """What the registries name now; None if none of them names a version."""
        found = await self._wish.ask(self.service.serving)
        if found is not None:
            self._mind(found)
            await self._judge_what_serves()
        self._troubles.forget(RESOLVE)
        return found

    def _mind(self, found: Version) -> None:
        """A registry has named *found*: what was begun for another version is given up."""
        serving, desired = self.service.serving, self._wish.desired
        if desired is None:
            return
        if self._wish.held_back is None:
            if serving is not None and serving.kept.version.id == found.id:
                self.service.rename(found)
            self._refusals.keep_only(found)
        if serving is not None and serving.kept.version.id == desired.id:
            self._troubles.forget(TAKE)
            if not self._is_due(serving):
                self._refusals.pardon(desired)  # of a reload of what serves all the same
        self._give_up_for(desired)
        self._note_drift()

    def _give_up_for(self, desired: Version) -> None:
        """What is on its way and not wanted any more; a fallback is no reason to."""
        way = self._way
        if way is None or way.task is None or way.task.done() or way.has_arrived or way.instead is not None:
            return
        if way.version.id != desired.id and _rank(desired) <= _rank(way.version):
            way.instead = desired
            way.task.cancel()

    async def _judge_what_serves(self) -> None:
        """Once since the start: it may have been taken from disk, and the thresholds be others by now."""
        serving = self.service.serving
        if serving is None or self._wish.judgement(serving.kept.version) is not None:
            return
        try:
            await self._wish.judge(serving.kept.version)
        except RegistryError:
            return  # which the wish remembers

    def _note_drift(self) -> None:
        serving, desired = self.service.serving, self._wish.desired
        same = serving is not None and desired is not None and serving.kept.version.id == desired.id
        if desired is None or same:
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
        self._troubles.forget(PROVE)
        if serving.host.hung:
            self.service.suspect(serving)

    async def _prove_again(self, serving: Serving, found: Version | None, *, dry_run: bool) -> str:
        number = serving.kept.version.number
        said = f"version {number} serves and is what the registry names"
        if found is not None and self._wish.held_back is not None:
            said = (
                f"version {number} serves and stays: {found.candidate} is a fallback, version {found.number}"
            )
        if dry_run:
            return f"{said}; it would prove itself again"
        await self._prove()
        after = self.service.serving
        if after is None or not after.canary.passed:
            why = after.canary.reason if after is not None else "its host is gone"
            raise Refused(f"{said}, but it failed its canary: {why}")
        return f"{said}; it proved itself again"

    async def _rehearse(self, wanted: Version, kept: Kept | None, serving: Serving | None) -> str:
        try:
            return await self._taking.rehearse(wanted, kept, serving)
        except Failed as failure:
            raise Refused(f"version {wanted.number} would be refused: {failure}") from failure
        except RegistryError as error:
            raise Refused(f"version {wanted.number} cannot be judged: {error.complaint.reason}") from error

    def _decide(self) -> None:
        """Set out for what should serve next: what served before while nothing does, and what is wanted."""
        if self._closed:
            return
        if (had := self._restart.first_of(self._shelf)) is not None and self._is_to_be_restored(had):
            self._restoring = self._errands.start(self._restore(had), RESTORE)
        if not self.is_busy and (wanted := self._next()) is not None:
            self._tell(Progress("judge", wanted.number, self._means.now()))
            self._set_out(wanted, self._go)

    def _is_to_be_restored(self, had: Version) -> bool:
        """Whether to load what served: nothing does now, and not because memory holds only one."""
        if self.service.serving is not None or self._taking.has_set_aside:
            return False
        way = self._way
        is_on_its_way = way is not None and not is_over(way.task) and way.version.id == had.id
        return not is_on_its_way and is_over(self._restoring) and self._restart.may_try()

    def _next(self) -> Version | None:
        """The version that the registry wants, if it is to be taken up now."""
        serving, wanted = self.service.serving, self._wish.desired
        if wanted is None and serving is not None and self._is_outdated(serving):
            wanted = serving.kept.version  # whatever the registries say, and though they say nothing
        if wanted is None or self._refusals.holds(wanted) or not self._retry.may_try():
            return None
        if serving is None:
            is_restored = any(version.id == wanted.id for version in self._shelf.proven())
            return None if is_restored else wanted
        return wanted if serving.kept.version.id != wanted.id or self._is_due(serving) else None

    def _is_due(self, serving: Serving) -> bool:
        """Whether the version in service is to be loaded anew, though it is the one that is wanted."""
        return self._is_outdated(serving) or self._has_expired(serving)

    def _is_outdated(self, serving: Serving | None) -> bool:
        """Whether *serving* was loaded as another table said."""
        inherited = self._inherited
        return serving is not None and inherited is not None and serving.host is inherited.host

    def _has_expired(self, serving: Serving) -> bool:
        """Whether the version in service is to be loaded anew because its time is over."""
        age = (self._means.now() - serving.since).total_seconds()
        return self._options.on_expiry == "reload" and age > self._options.cache_ttl

    def _set_out(
        self, version: Version, how: Callable[[_Way], Coroutine[Any, Any, str]]
    ) -> asyncio.Task[str]:
        self._way = way = _Way(version)
        way.task = self._errands.start(how(way), TAKE)
        return way.task

    async def _go(self, way: _Way) -> str:
        """Take up a version unless something on this host forbids it for now; nobody waits for it."""
        version = way.version
        kept, serving = self._shelf.find(version), self.service.serving
        try:
            if serving is not None:  # else there is nothing to lose by trying
                find = partial(self._find_obstacle, kept, serving)
                self._obstacle = await in_thread("look for obstacles", find)
                if self._obstacle is not None:
                    return self._obstacle
            return await self._take(way)
        except Refused as refusal:
            self._means.log.warning(
                "version not taken up", extra={"version": version.number, "reason": str(refusal)}
            )
            return str(refusal)
        finally:
            self._tell(None)

    async def _take(self, way: _Way) -> str:
        """Take up the version of *way*: when this returns it serves, and the one before is gone.

        Raises:
            Refused: it does not serve, and why; what served before still does.
        """
        self._obstacle = None
        version = way.version
        kept = self._shelf.find(version)
        try:
            serving, before = await self._taking.take(version, kept)
            way.has_arrived = True
            return await self._settle(serving, before)
        except asyncio.CancelledError:
            raise self._given_up(way) from None
        except (Failed, StoreError, RegistryError) as error:
            raise Refused(self._note_failure(version, kept, error)) from error
        finally:
            self._tell(None)
            self._note_drift()
            self._again()

    def _given_up(self, way: _Way) -> BaseException:
        """What the end of *way* was: given up for another version, or cancelled from outside."""
        task = asyncio.current_task()
        if way.instead is None or task is None or task.uncancel():
            return asyncio.CancelledError()
        self._means.measures.loads.inc(result="given_up")
        named = f"a registry names version {way.instead.number} now"
        return Refused(f"version {way.version.number} is not taken up: {named}")

    def _note_failure(
        self, version: Version, kept: Kept | None, error: Failed | StoreError | RegistryError
    ) -> str:
        if isinstance(error, Failed):
            self._means.measures.loads.inc(result=error.step)
            if error.is_corrupt and kept is not None:
                self._shelf = self._shelf.without(kept)  # it is fetched anew
            else:
                self._refusals.refuse(version, error.step, str(error))
            return f"version {version.number} was refused: {error}"
        self._retry.failed()
        if isinstance(error, StoreError):
            self._troubles.note(TAKE, str(error))
            self._means.measures.loads.inc(result="no_room")
            return f"version {version.number} cannot be kept: {error}"
        self._means.measures.loads.inc(result="registry")
        return f"version {version.number} cannot be judged: {error.complaint.reason}"

    async def _settle(self, serving: Serving, before: Serving | None) -> str:
        """*serving* answers; let the one before finish, and the disk forget what is older."""
        version = serving.kept.version
        self._refusals.pardon(version)
        self._retry.succeeded()
        self._in_service(serving)
        if before is not None:
            self._tell(Progress("drain", before.kept.version.number, self._means.now()))
            await before.host.end(self._options.prediction.timeout)
        await self._write_down()
        return f"version {version.number} ({version.candidate}) serves{_instead_of(version, before)}"

    async def _restore(self, version: Version) -> None:
        """Have *version*, which served before, serve again; the waits grow while that fails."""
        kept = self._shelf.find(version)
        assert kept is not None
        try:
            if (serving := await self._taking.restore(kept)) is not None:
                self._in_service(serving)
                await self._write_down()
        except (Failed, StoreError) as error:
            self._note_stumble(kept, error)
        finally:
            self._tell(None)
            self._note_drift()
            self._again()

    def _in_service(self, serving: Serving) -> None:
        version = serving.kept.version
        self._means.measures.loads.inc(result="ok")
        self._restart.is_over(version)
        self._troubles.forget(TAKE, RESTORE)
        self._unwritten = serving
        self._note_drift()
        self._again()
        self._means.log.info(
            "version in service",
            extra={"version": version.number, "candidate": version.candidate, "registry": version.registry},
        )

    def _note_stumble(self, kept: Kept, error: Failed | StoreError) -> None:
        number = kept.version.number
        self._means.measures.loads.inc(result=error.step if isinstance(error, Failed) else "no_room")
        self._means.log.warning("version not restored", extra={"version": number, "reason": str(error)})
        if isinstance(error, StoreError):
            self._troubles.note(RESTORE, str(error))
        elif error.is_corrupt:
            self._shelf = self._shelf.without(kept)
        self._restart.failed(kept.version, str(error), is_its_fault=isinstance(error, Failed))
        self._errands.later(self._restart.left(), self._decide)

    async def _write_down(self) -> None:
        """Note on disk which version a start begins with; what the disk refuses is tried at each check."""
        serving = self._unwritten
        if serving is None or not self.service.holds(serving.host):
            return
        load_bytes = await serving.host.rss()
        try:
            self._shelf = await in_thread(
                "keep the version", lambda: self._taking.choose(serving, load_bytes)
            )
        except StoreError as error:
            self._troubles.note(WRITE, str(error))
        else:
            self._unwritten = None
            self._troubles.forget(WRITE, OPEN)

    def _fetched(self, kept: Kept) -> None:
        """*kept* is on disk, and need not be fetched again if it is refused now and tried later."""
        self._shelf = self._shelf.with_fetched(kept)

    def _lost(self, serving: Serving, reason: str, how: str) -> None:
        """The host in service is gone: take the same version up again from disk, and say so twice."""
        self.service.take()
        self._restart.lost(serving.kept.version, how)
        self._means.log.error(
            "model host lost", extra={"version": serving.kept.version.number, "reason": reason, "how": how}
        )
        self._note_drift()
        self._errands.later(self._restart.left(), self._decide)
        self._again()
        self._errands.later(LOOK_AGAIN, self._again)

    def _broke(self, what: str, said: str) -> None:
        """A task of ours ended by a fault of ours."""
        self._troubles.note(what, said)
        self._retry.failed()
        self._again()

    def _tell(self, progress: Progress | None) -> None:
        self._progress = progress
        self._show(progress)

    def _why_none(self) -> str:
        if self._progress is not None:
            return self._progress.sentence()
        refused = next(iter(self._refusals), None)
        if refused is not None:
            return f"version {refused.version.number} was refused ({refused.step})"
        return self._restart.how_lost or self._wish.complaint_text()


def _instead_of(version: Version, before: Serving | None) -> str:
    if before is None:
        return ""
    if before.kept.version.id == version.id:
        return " anew"
    return f" instead of {before.kept.version.number}"


def _rank(version: Version) -> tuple[int, int]:
    return version.registry_rank, version.candidate_rank
