"""The life of versions on this host: what is wanted, what serves, and what is to be done about it."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

from mlopsd_probes.model.cache.versions import CachedVersions
from mlopsd_probes.model.progress import Progress
from mlopsd_probes.model.rollout.attempts import TAKE, Obstacle, Rollouts
from mlopsd_probes.model.rollout.context import RolloutContext
from mlopsd_probes.model.rollout.desired import DesiredVersion
from mlopsd_probes.model.rollout.problems import Problems
from mlopsd_probes.model.rollout.reload import VersionReload
from mlopsd_probes.model.rollout.status import RolloutStatus
from mlopsd_probes.model.rollout.tasks import TaskSet, is_over, wait
from mlopsd_probes.model.serving.active_model import ActiveModel, ActiveVersion
from mlopsd_probes.model.serving.liveness import Backlog
from mlopsd_probes.model.version import Version
from mlopsd_probes.registry.registries import RegistryError

RESOLVE_PATIENCE = 8.0  # seconds that a check waits for registries; what takes longer is told by the next
LOOK_AGAIN = 1.0  # seconds after a loss: a second reading, so that the damping does not hide it
FOR_REGISTRIES, FOR_A_CANARY = 0.6, 0.8  # of a check's timeout, at most

RESOLVE, PROVE = "resolve", "prove"


class Reconciler:
    """Decides, and holds one version in service and at most one on its way there.

    *again* asks for a check soon, *show* shows progress until the next; *obstacle* is that of `Rollouts`.
    A check may take *timeout* seconds.
    """

    def __init__(
        self,
        means: RolloutContext,
        *,
        again: Callable[[], None],
        show: Callable[[Progress | None], None],
        obstacle: Obstacle,
        timeout: float,
    ) -> None:
        self._means = means
        self._options = means.options
        self._again = again
        self._timeout = timeout
        self.service = ActiveModel(
            means.options.prediction, means.measures, means.log, self._why_none, self._lost
        )
        self._troubles = Problems()
        self._errands = TaskSet(means.options.model, means.log, self._broke)
        self._wish = DesiredVersion(means)
        self._stock = CachedVersions(means, self.service, self._errands, self._troubles)
        self._attempts = Rollouts(
            means,
            self._wish,
            self.service,
            self._stock,
            errands=self._errands,
            troubles=self._troubles,
            obstacle=obstacle,
            show=show,
            changed=self._changed,
            retry=self._decide,
        )
        self._reload = VersionReload(
            self._wish, self.service, self._stock, self._attempts, resolve=self._resolve, prove=self._prove
        )
        self._resolving: asyncio.Task[Any] | None = None
        self._proving: asyncio.Task[None] | None = None
        self._drift_since: datetime | None = None
        self._closed = False

    def inherit(self, before: "Reconciler") -> None:
        """Go on with what serves in *before*, under a table of our own; it is to be loaded anew by that."""
        self._attempts.restart.times = before._attempts.restart.times
        if (serving := before.service.take()) is not None:
            self.service.put(replace(serving, is_outdated=True))

    async def look(self) -> None:
        """Ask the registries, have the version in service prove itself, and act on both."""
        await self._stock.open()
        await self._stock.write_down()
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

    async def reload(self, *, dry_run: bool, force: bool) -> str:
        """Go to the version that the registry names now; see `VersionReload.run`."""
        return await self._reload.run(dry_run=dry_run, force=force)

    async def state(self) -> RolloutStatus:
        """How things stand."""
        serving = self.service.serving
        return RolloutStatus(
            now=self._means.now(),
            desired=self._wish.desired,
            serving=serving,
            held_back=self._wish.held_back,
            complaints=self._wish.complaints,
            reached_at=self._wish.reached_at,
            drift_since=self._drift_since,
            refusals=tuple(self._attempts.refusals),
            progress=self._attempts.progress,
            judgement=None if serving is None else self._wish.judgement(serving.kept.version),
            lost=self._attempts.restart.how_lost,
            lost_advice=self._attempts.restart.advice,
            obstacle=self._attempts.obstacle,
            trouble=self._troubles.text(),
            restarts=self._attempts.restart.times,
            rss=None if serving is None else await serving.host.rss(),
            is_mismatched=serving is not None and serving.kept.version.id in self._means.mismatches,
            backlog=Backlog() if serving is None else serving.host.backlog,
            canary_behind=0 if serving is None else serving.host.canary_behind,
        )

    async def close(self) -> None:
        """End every process and task at once."""
        self._closed = True
        self._errands.close()
        tasks = [self._stock.opening, self._resolving, self._proving, *self._attempts.tasks]
        for task in tasks:
            if task is not None:
                task.cancel()
        await asyncio.gather(self.service.close(), self._means.registries.close())
        await wait(tasks, 0.1)

    @property
    def is_busy(self) -> bool:
        """Whether a version is on its way, a new one or the one that served."""
        return self._attempts.are_under_way

    async def _resolve(self) -> Version | None:
        """What the registries name now; None if none of them names a version."""
        found = await self._wish.ask(self.service.serving)
        self._mind(found)
        if found is not None:
            await self._judge_what_serves()
        self._troubles.forget(RESOLVE)
        return found

    def _mind(self, found: Version | None) -> None:
        """The registries have named *found*: what was begun for another version is given up and forgotten."""
        serving, desired = self.service.serving, self._wish.desired
        if desired is None:
            self._attempts.refusals.keep_only(None if serving is None else serving.kept.version)
        elif found is not None and self._wish.held_back is None:
            if self.service.serves(found):
                self.service.rename(found)
            self._attempts.refusals.keep_only(found)
        if desired is None or self.service.serves(desired):
            self._troubles.forget(TAKE)
            if desired is not None and serving is not None and not self._is_due(serving):
                self._attempts.refusals.pardon(desired)  # of a reload of what serves all the same
        self._attempts.give_up_for(desired)
        self._note_drift()

    async def _judge_what_serves(self) -> None:
        """Once since the start: it may have been taken from disk, and the thresholds be others by now."""
        serving = self.service.serving
        if serving is None or self._wish.judgement(serving.kept.version) is not None:
            return
        try:
            await self._wish.judge(serving.kept.version)
        except RegistryError:
            return  # which the wish remembers

    async def _prove(self) -> None:
        """The canary of the version in service, at every check."""
        if (serving := self.service.serving) is None:
            return
        canary = await serving.host.canary(self._options.canary.timeout)
        self._means.measures.canary_seconds.observe(canary.seconds)
        self.service.proven(serving.host, canary, self._means.now())
        self._troubles.forget(PROVE)

    def _decide(self) -> None:
        """Set out for what should serve next: what served before while nothing does, and what is wanted."""
        if self._closed:
            return
        self._attempts.restore()
        if not self._attempts.are_under_way and (wanted := self._next()) is not None:
            self._attempts.begin(wanted)

    def _next(self) -> Version | None:
        """The version that the registry wants, if it is to be taken up now."""
        serving, wanted = self.service.serving, self._wish.desired
        if wanted is None and serving is not None and serving.is_outdated:
            wanted = serving.kept.version  # whatever the registries say, and though they say nothing
        if wanted is None or not self._attempts.may_begin(wanted):
            return None
        if serving is None:
            is_restored = any(version.id == wanted.id for version in self._stock.shelf.proven())
            return None if is_restored else wanted
        return wanted if not self.service.serves(wanted) or self._is_due(serving) else None

    def _is_due(self, serving: ActiveVersion) -> bool:
        """Whether the version in service is to be loaded anew, though it is the one that is wanted."""
        age = (self._means.now() - serving.since).total_seconds()
        has_expired = self._options.on_expiry == "reload" and age > self._options.cache_ttl
        return serving.is_outdated or has_expired

    def _note_drift(self) -> None:
        desired = self._wish.desired
        if desired is None or self.service.serves(desired):
            self._drift_since = None
        elif self._drift_since is None:
            self._drift_since = self._means.now()

    def _changed(self) -> None:
        """Something may serve that did not, or is not on its way any more."""
        self._note_drift()
        self._again()

    def _lost(self, serving: ActiveVersion, reason: str, how: str) -> None:
        """The host in service is gone: take the same version up again from disk, and say so twice."""
        self.service.take()
        restart = self._attempts.restart
        restart.lost(serving.kept.version, how)
        self._means.log.error(
            "model host lost", extra={"version": serving.kept.version.number, "reason": reason, "how": how}
        )
        self._errands.later(restart.left(), self._decide)
        self._changed()
        self._errands.later(LOOK_AGAIN, self._again)

    def _broke(self, what: str, said: str) -> None:
        """A task of ours ended by a fault of ours."""
        self._troubles.note(what, said)
        self._attempts.pause()
        self._again()

    def _tell_late(self, _: asyncio.Task[Any]) -> None:
        if not self._closed:
            self._again()

    def _why_none(self) -> str:
        if (progress := self._attempts.progress) is not None:
            return progress.sentence()
        refused = next(iter(self._attempts.refusals), None)
        if refused is not None:
            return f"{refused.what} ({refused.step})"
        return self._attempts.restart.how_lost or self._wish.complaint_text()
