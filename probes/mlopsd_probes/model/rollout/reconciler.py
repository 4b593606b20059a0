"""The loop that keeps the desired version in service: observe, plan, act, wait."""

import asyncio
import contextlib
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

from mlopsd.predictor import Progress
from mlopsd.probe import ReloadRefused
from mlopsd.process.backoff import ExponentialBackoff
from mlopsd.threads import in_thread
from mlopsd_probes.model.cache.files import StoreError
from mlopsd_probes.model.cache.versions import CachedVersions, Choice
from mlopsd_probes.model.progress import ProgressTracker
from mlopsd_probes.model.rollout.backoffs import RolloutBackoffs, end_of
from mlopsd_probes.model.rollout.desired import DesiredVersion
from mlopsd_probes.model.rollout.plan import (
    Action,
    Cancel,
    Keep,
    Observed,
    Restore,
    Rollout,
    Start,
    explain_keep,
    is_due,
    plan,
)
from mlopsd_probes.model.rollout.preconditions import find_precondition, gpu_memory_of
from mlopsd_probes.model.rollout.rejections import LONGEST_SOON, Losses, Rejections
from mlopsd_probes.model.rollout.steps import Failed, RolloutContext, Steps
from mlopsd_probes.model.rollout.tasks import TaskSet, has_failed, is_over, wait
from mlopsd_probes.model.serving.active_model import ActiveModel, ActiveVersion, is_canary_due
from mlopsd_probes.model.serving.liveness import Backlog
from mlopsd_probes.model.version import CachedVersion
from mlopsd_probes.registry.registries import RegistryError
from mlopsd_probes.registry.version import Version

RESOLVE_PATIENCE = 8.0  # seconds that a check waits for registries; a later answer asks for another check
RECHECK_AFTER_LOSS = 1.0  # seconds; damping needs a second reading before it shows the loss
FOR_REGISTRIES, FOR_A_CANARY, FOR_A_TURN = 0.6, 0.8, 0.1  # of a check's timeout, at most
CHANGED = "the model's table was changed meanwhile; ask again"

OPEN, WRITE, RESOLVE, VERIFY = "read the cache", "write the cache", "resolve", "verify"
ROLL_OUT, RESTORE, RECONCILE = "roll out a version", "restore a version", "reconcile"


class Reconciler:
    """Keeps one version in service; runs at most one rollout, and one restore beside it.

    Planning and acting on one snapshot is one step without an await. A reload may therefore plan beside
    the loop.

    Attributes:
        active: the version in service.
    """

    def __init__(self, context: RolloutContext) -> None:
        self._context = context
        self._options = options = context.options
        self._hosts = hosts = context.hosts
        self._log = context.probe.log
        self._progress = ProgressTracker(context.probe)
        self.active = ActiveModel(options.prediction, hosts.measures, self._log, hosts.wake, self._progress)
        self._desired = DesiredVersion(options, context.registries, context.now)
        self._cached = CachedVersions(context.store, options, self._log, hosts.mismatches)
        self._steps = Steps(context, self._desired, self._cached, self.active, self._progress)
        self._tasks = TaskSet(options.model, self._log, hosts.wake)
        self._rejections = Rejections(options.rejected_backoff, context.now)
        self._losses = Losses(context.now)
        self._backoffs = RolloutBackoffs()
        self._rollout: Rollout | None = None
        self._restored: Version | None = None
        self._precondition: str | None = None
        self._drift_since: datetime | None = None
        self._mismatches_seen = len(hosts.mismatches)
        self._reloads = 0  # reloads that have not decided yet
        self._has_asked = False
        self._is_closed = False
        self._turn_end = asyncio.Event()  # of the turn that comes next
        self._loop: asyncio.Task[None] | None = None
        self._opening: asyncio.Task[None] | None = None
        self._writing: asyncio.Task[None] | None = None
        self._resolving: asyncio.Task[Any] | None = None
        self._verifying: asyncio.Task[None] | None = None
        self._rolling: asyncio.Task[str] | None = None
        self._restoring: asyncio.Task[None] | None = None

    def inherit(self, before: "Reconciler") -> None:
        """Take over the version in service from *before*; the loop then reloads it with the new options."""
        serving, self._losses.times = before.hand_over()
        if serving is not None:
            version = replace(serving.kept.version, tagged_digest=None)  # the options may name another tag
            self.active.put(replace(serving, kept=replace(serving.kept, version=version), is_outdated=True))
        self._ensure_loop()

    def hand_over(self) -> tuple[ActiveVersion | None, int]:
        """Give up the version in service; return it, and the number of hosts lost so far."""
        self._note_loss()
        return self.active.take(), self._losses.times

    async def check(self) -> None:
        """Ask the registries, verify the version in service, and act on both."""
        timeout = self._context.probe.timeout
        await self._open()
        self._start_write()
        await wait([self._writing], FOR_A_TURN * timeout)
        self._hosts.wake.set()  # a restore from disk need not wait for a registry
        if is_over(self._resolving):
            self._resolving = self._tasks.start(RESOLVE, self._resolve)
        if is_over(self._verifying):
            self._verifying = self._tasks.start(VERIFY, self._verify)
        await asyncio.gather(
            wait([self._resolving], min(RESOLVE_PATIENCE, FOR_REGISTRIES * timeout)),
            wait([self._verifying], FOR_A_CANARY * timeout),
        )
        for late in (self._resolving, self._verifying):
            if late is not None and not late.done():  # the next check may be an hour away
                late.add_done_callback(self._request_check)
        self._has_asked = True
        await self._turn(FOR_A_TURN * timeout)

    async def reload(self, *, dry_run: bool, force: bool) -> str:
        """Roll out the version that the registry names now, after any rollout in progress.

        Return what was done, or on a *dry_run* what would be done.

        Raises:
            ReloadRefused: the reload is rejected; the text gives the reason.
        """
        await self._open()
        if dry_run and self.is_rolling:
            progress = self._progress.current
            doing = "a rollout is in progress" if progress is None else progress.sentence()
            raise ReloadRefused(f"cannot try a reload: {doing}; try again when it has ended")
        self._reloads += 1
        try:
            await self._settle()
            found = await self._resolve()
            await self._settle()  # a restore, or the rollout of another reload
            seen = await self._observe_for_reload(found, force=force)
            self._check_open()
            action = plan(seen, self._options, force=force)
            if isinstance(action, Start) and not dry_run:
                self._rejections.clear(action.version)
                return await self._wait_for_rollout(self._start(action.version))
        finally:
            self._reloads -= 1
            self._hosts.wake.set()  # what was held meanwhile
        if isinstance(action, Start):
            return await self._rehearse(action.version)
        what = explain_keep(seen, action)
        return f"{what}; its canary would run again" if dry_run else await self._verify_again(what)

    async def observe(self) -> Observed:
        """Return a snapshot, with the memory of the host."""
        serving = self.active.serving
        rss = None if serving is None else await serving.host.rss()
        return replace(self._snapshot(), rss=rss)

    async def close(self) -> None:
        """End every process and task at once."""
        self._is_closed = True
        self._tasks.cancel()
        self._end_turn()
        await asyncio.gather(self.active.close(), self._context.registries.close())
        await self._tasks.wait(0.1)

    @property
    def is_rolling(self) -> bool:
        """Return whether a version is being rolled out or restored."""
        return not (is_over(self._rolling) and is_over(self._restoring))

    # Observe

    def _snapshot(self) -> Observed:
        self._note_loss()
        serving, losses, now = self.active.serving, self._losses, self._context.now()
        self._note_drift(now)
        problems = [*self._tasks.problems.values(), self._cached.problem]
        return Observed(
            now=now,
            desired=self._desired.desired,
            named=self._desired.named,
            serving=serving,
            cached=self._cached.contents,
            rejected=self._rejections.by_id(),
            in_progress=None if is_over(self._rolling) else self._rollout,
            restoring=None if is_over(self._restoring) else self._restored,
            has_set_aside=self._steps.has_set_aside,
            has_asked=self._has_asked,
            is_held=self._reloads > 0,
            rollout_at=end_of(self._backoffs.common, now),
            waits=self._backoffs.waits(now),
            restore_at=end_of(losses.backoff, now),
            stumbles=dict(losses.stumbles),
            precondition=self._precondition,
            progress=self._progress.current,
            complaints=self._desired.complaints,
            reached_at=self._desired.reached_at,
            drift_since=self._drift_since,
            judgement=None if serving is None else self._desired.judgement(serving.kept.version),
            signature_fault=None if serving is None else self._desired.signature_fault(serving.kept.version),
            lost=losses.how,
            lost_advice=losses.advice,
            lost_since=losses.since,
            failed_starts=losses.backoff.failures,
            problem="; ".join(dict.fromkeys(problem for problem in problems if problem)) or None,
            restarts=losses.times,
            canary_behind=0 if serving is None else serving.host.canary_behind,
            backlog=Backlog() if serving is None else serving.host.backlog,
            is_mismatched=serving is not None and serving.kept.version.id in self._hosts.mismatches,
        )

    async def _observe_to_plan(self) -> Observed:
        """Return a snapshot with its precondition, which costs a thread and is only found if it matters."""
        while True:
            seen = replace(self._snapshot(), precondition=None)
            action = plan(seen, self._options)
            if not isinstance(action, Start) or seen.serving is None:
                self._precondition = None
                return seen
            found = await self._find_precondition(action)
            seen = replace(self._snapshot(), precondition=None)
            if plan(seen, self._options) == action:  # else it is not the precondition of what is next
                self._precondition = found
                return replace(seen, precondition=found)

    async def _observe_for_reload(self, found: Version | None, *, force: bool) -> Observed:
        def view() -> Observed:
            return self._snapshot().for_reload(is_answered=found is not None, force=force)

        action = plan(replace(view(), precondition=None), self._options, force=force)
        precondition = await self._find_precondition(action)
        return replace(view(), precondition=precondition)

    async def _find_precondition(self, action: Action) -> str | None:
        if not isinstance(action, Start):
            return None
        contents, serving = self._cached.contents, self.active.serving
        kept = contents.find(action.version)
        before = None if serving is None else contents.find(serving.kept.version) or serving.kept
        board, options = self._context.probe.board, self._options
        return await in_thread("check preconditions", lambda: find_precondition(board, options, kept, before))

    def _note_loss(self) -> None:
        """Record that the host in service was lost, and request two checks to report it."""
        if (lost := self.active.lost) is None:
            return
        self.active.lost = None
        self._losses.add(lost.version, lost.how)
        self._request_check()
        asyncio.get_running_loop().call_later(RECHECK_AFTER_LOSS, self._request_check)

    def _note_drift(self, now: datetime) -> None:
        desired = self._desired.desired
        if desired is None or self.active.serves(desired):
            self._drift_since = None
        elif self._drift_since is None:
            self._drift_since = now

    def _note_mismatches(self) -> None:
        if (count := len(self._hosts.mismatches)) != self._mismatches_seen:
            self._mismatches_seen = count
            self._start_write()
            self._request_check()

    # Plan and act

    def _ensure_loop(self) -> None:
        if is_over(self._loop) and not self._is_closed:
            self._loop = self._tasks.start(RECONCILE, self._run)

    async def _run(self) -> None:
        """Plan and act whenever something has changed; a fault of ours in a turn only delays the next."""
        wake, backoff = self._hosts.wake, ExponentialBackoff(longest=LONGEST_SOON)
        while True:
            try:
                seconds = await self._reconcile()
            except Exception as error:  # noqa: BLE001  # a fault of ours, which must not end the loop
                self._tasks.note_fault(RECONCILE, error)
                backoff.failed()
                self._end_turn()
                self._request_check()
                await asyncio.sleep(backoff.left())
                continue
            wake.clear()  # nothing was awaited since the last snapshot
            self._end_turn()
            self._tasks.forget(RECONCILE)
            backoff.forget()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await wake.wait()

    async def _reconcile(self) -> float | None:
        """Plan and act until there is nothing to do; return the seconds until something is due."""
        while True:
            seen = await self._observe_to_plan()
            action = plan(seen, self._options)
            if isinstance(action, Keep):
                self._note_mismatches()
                self.active.why_none = seen.why_none
                return seen.seconds_to_wait
            self._act(action)

    async def _turn(self, timeout: float) -> None:  # noqa: ASYNC109  # asyncio.wait's
        """Have the loop plan on what is known now, and wait for that."""
        if self._is_closed:
            return
        end = self._turn_end
        self._hosts.wake.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await end.wait()

    def _end_turn(self) -> None:
        self._turn_end.set()
        self._turn_end = asyncio.Event()

    def _act(self, action: Restore | Start | Cancel) -> None:
        match action:
            case Cancel(reason):
                assert self._rollout is not None
                assert self._rolling is not None
                self._rollout = replace(self._rollout, cancelled_because=reason)
                self._rolling.cancel()
            case Restore(version):
                self._restored = version
                self._restoring = self._tasks.start(
                    RESTORE, self._restore, version, backoff=self._losses.backoff
                )
            case Start(version):
                self._start(version).add_done_callback(partial(self._log_failure, version))

    def _start(self, version: Version) -> "asyncio.Task[str]":
        self._precondition = None
        self._progress.set(Progress("judge", version.number, self._context.now()))
        self._rollout = Rollout(version, self._desired.desired)
        self._rolling = self._tasks.start(ROLL_OUT, self._roll_out, version, backoff=self._backoffs.common)
        return self._rolling

    # Tasks

    async def _open(self) -> None:
        """Read the cache once; whoever comes meanwhile waits for it."""
        if self._opening is None or has_failed(self._opening):
            self._opening = self._tasks.start(OPEN, self._read_cache)
        await asyncio.shield(self._opening)
        self._ensure_loop()

    async def _read_cache(self) -> None:
        is_idle = self.active.serving is None  # else its host uses the scratch folder
        await self._cached.open(self._hosts.scratch if is_idle else None)
        self._mismatches_seen = len(self._hosts.mismatches)
        self._tasks.forget(OPEN)

    def _start_write(self) -> None:
        if is_over(self._writing):  # else a disk that hangs would take one more thread at each check
            self._writing = self._tasks.start(WRITE, self._write)

    async def _write(self) -> None:
        serving = self.active.serving
        is_new = serving is not None and self._cached.is_unwritten(serving.kept.version)
        load_bytes = await serving.host.rss() if serving is not None and is_new else None
        kept = None if serving is None else serving.kept
        gpu_bytes = gpu_memory_of(self._context.probe.board, self._options, kept)
        await self._cached.write(None if kept is None else kept.version.id, load_bytes, gpu_bytes)
        self._tasks.forget(WRITE)

    async def _resolve(self) -> Version | None:
        """Return the version that a registry names now; forget rejections of all others."""
        serving = self.active.serving
        served = self._snapshot().restorable if serving is None else serving.kept.version
        is_verified = serving is None or serving.proven_at is not None
        found = await self._desired.ask(served, is_verified=is_verified)
        desired, serving = self._desired.desired, self.active.serving
        if desired is None:
            self._rejections.keep_only(None if serving is None else serving.kept.version)
        elif found is not None and found == desired:
            if self.active.serves(found):
                self.active.rename(found)
            self._rejections.keep_only(found)
        if desired is None or self.active.serves(desired):
            self._tasks.forget(ROLL_OUT)
            if (
                desired is not None
                and serving is not None
                and not is_due(serving, self._options, self._context.now())
            ):
                self._rejections.clear(desired)  # left by a forced reload that failed
        if found is not None:
            await self._judge_active()
        self._tasks.forget(RESOLVE)
        return found

    async def _judge_active(self) -> None:
        """Judge the version in service once; it may come from disk, and its table may be new."""
        if (serving := self.active.serving) is None:
            return
        version = serving.kept.version
        with contextlib.suppress(RegistryError):  # each has recorded it as a complaint
            if self._desired.judgement(version) is None:
                await self._desired.judge(version)
            if self._desired.signature_fault(version) is None:
                await self._desired.attest(serving.kept)

    async def _verify(self, *, is_asked: bool = False) -> None:
        """Run the canary of the version in service, unless it is not due; always if it *is_asked* for."""
        if (serving := self.active.serving) is None:
            return
        now, has_proof = self._context.now(), serving.host.take_proof()
        if not is_asked and not is_canary_due(serving, self._options.canary, now, has_proof=has_proof):
            if has_proof:
                self.active.proven(serving.host, replace(serving.canary, is_by_caller=True), now)
            self._tasks.forget(VERIFY)
            return
        canary = await serving.host.canary(self._options.canary.timeout)
        self._hosts.measures.canary_seconds.observe(canary.seconds)
        self.active.proven(serving.host, canary, self._context.now())
        self._tasks.forget(VERIFY)

    async def _roll_out(self, version: Version) -> str:
        """Roll *version* out, and drain the version that it replaces.

        Raises:
            ReloadRefused: the rollout failed or was cancelled; the text gives the reason.
        """
        try:
            serving, before = await self._steps.roll_out(version)
            assert self._rollout is not None
            self._rollout = replace(self._rollout, is_serving=True)
            return await self._finish(serving, before)
        except asyncio.CancelledError:
            raise self._end_of_cancelled(version) from None
        except (Failed, StoreError, RegistryError) as error:
            raise ReloadRefused(self._note_failure(version, error)) from error
        finally:
            self._progress.set(None)
            self._request_check()

    async def _finish(self, serving: ActiveVersion, before: ActiveVersion | None) -> str:
        version = serving.kept.version
        try:
            self._rejections.clear(version)
            self._backoffs.forget()
            self._note_in_service(serving)
        finally:  # whatever fails, the old process gives its memory back
            if before is not None:
                number = before.kept.version.number
                self._progress.set(Progress("drain", number, self._context.now()))
                await before.host.end(self._options.prediction.timeout)
        await self._write()
        return f"version {version.number} ({version.candidate}) serves{_instead_of(version, before)}"

    async def _restore(self, version: Version) -> None:
        """Load *version*, which served before, from disk; each failure makes the next wait longer."""
        kept = self._cached.contents.find(version)
        assert kept is not None
        try:
            if (serving := await self._steps.restore(kept)) is not None:
                self._note_in_service(serving)
                await self._write()
        except (Failed, StoreError) as error:
            self._note_stumble(kept, error)
        finally:
            self._progress.set(None)
            self._request_check()

    # The outcome of an attempt

    def _note_in_service(self, serving: ActiveVersion) -> None:
        version = serving.kept.version
        self._hosts.measures.loads.inc(result="ok")
        self._losses.end(version)
        self._tasks.forget(ROLL_OUT, RESTORE)
        self._request_check()
        extra = {"version": version.number, "candidate": version.candidate, "registry": version.registry}
        self._log.info("version in service", extra=extra | {"history": True})
        self._cached.choose(Choice(serving.kept, serving.host.facts.get("cuda")))

    def _end_of_cancelled(self, version: Version) -> BaseException:
        """Return the exception of a cancelled rollout: its reason, or `CancelledError` if all tasks end."""
        rollout, task = self._rollout, asyncio.current_task()
        reason = None if rollout is None else rollout.cancelled_because
        if reason is None or task is None or task.uncancel():
            return asyncio.CancelledError()
        self._hosts.measures.loads.inc(result="given_up")
        return ReloadRefused(f"cannot roll out version {version.number}: {reason}")

    def _note_failure(self, version: Version, error: Failed | StoreError | RegistryError) -> str:
        loads = self._hosts.measures.loads
        if isinstance(error, Failed):
            loads.inc(result=error.step)
            if error.is_corrupt and (kept := self._cached.contents.find(version)) is not None:
                self._cached.drop(kept)
            rejection = self._rejections.add(version, error.step, str(error), error.cause)
            return f"{rejection.what}: {error}"
        if isinstance(error, StoreError):
            self._backoffs.common.failed()
            self._tasks.problems[ROLL_OUT] = str(error)
            loads.inc(result="no_room")
            return f"cannot roll out version {version.number}: {error}"
        self._backoffs.registry_failed(version, self._progress.current, error.complaint.retry_after)
        loads.inc(result="registry")
        return f"cannot roll out version {version.number}: {error.complaint.reason}"

    def _note_stumble(self, kept: CachedVersion, error: Failed | StoreError) -> None:
        number = kept.version.number
        self._hosts.measures.loads.inc(result=error.step if isinstance(error, Failed) else "no_room")
        self._log.warning("restore failed", extra={"version": number, "reason": str(error), "history": True})
        if isinstance(error, StoreError):
            self._tasks.problems[RESTORE] = str(error)
        elif error.is_corrupt:
            self._cached.drop(kept)
        cause = error.cause if isinstance(error, Failed) else None
        self._losses.stumble(kept.version, str(error), cause)

    def _log_failure(self, version: Version, task: "asyncio.Task[str]") -> None:
        if not task.cancelled() and isinstance(error := task.exception(), ReloadRefused):
            extra = {"version": version.number, "reason": str(error), "history": True}
            self._log.warning("rollout failed", extra=extra)

    def _request_check(self, _: object = None) -> None:
        if not self._is_closed:
            self._context.probe.request_check()

    # Reloads

    async def _settle(self) -> None:
        """Wait for every rollout and restore, whatever becomes of them.

        Raises:
            ReloadRefused: the table was changed meanwhile.
        """
        while self.is_rolling:
            await wait([self._rolling, self._restoring], None)
        self._check_open()

    def _check_open(self) -> None:
        """Refuse a reload under a table that is not the configuration any more.

        Raises:
            ReloadRefused: the table was changed meanwhile.
        """
        if self._is_closed:
            raise ReloadRefused(CHANGED)

    async def _wait_for_rollout(self, rolling: "asyncio.Task[str]") -> str:
        try:
            return await asyncio.shield(rolling)
        except asyncio.CancelledError:
            if self._is_closed and rolling.cancelled():
                raise ReloadRefused(CHANGED) from None
            raise

    async def _rehearse(self, version: Version) -> str:
        try:
            return await self._steps.rehearse(version)
        except Failed as error:
            raise ReloadRefused(f"version {version.number} would be rejected: {error}") from error
        except RegistryError as error:
            reason = error.complaint.reason
            raise ReloadRefused(f"cannot judge version {version.number}: {reason}") from error

    async def _verify_again(self, what: str) -> str:
        await self._verify(is_asked=True)
        after = self.active.serving
        if after is None or not after.canary.passed:
            reason = after.canary.reason if after is not None else "its process is gone"
            raise ReloadRefused(f"{what}, but it failed its canary: {reason}")
        return f"{what}; it passed its canary again"


def _instead_of(version: Version, before: ActiveVersion | None) -> str:
    if before is None:
        return ""
    if before.kept.version.id == version.id:
        return " after a reload"
    return f" instead of {before.kept.version.number}"
