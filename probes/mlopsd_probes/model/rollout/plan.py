"""Decide what to do next about the versions of one model: a pure function of one snapshot."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TypeAlias

from mlopsd.predictor import Progress
from mlopsd.probe import Advice, ReloadRefused
from mlopsd_probes.model.cache.contents import CacheContents
from mlopsd_probes.model.options import ModelOptions
from mlopsd_probes.model.rollout.rejections import Rejection
from mlopsd_probes.model.rollout.thresholds import Judgement
from mlopsd_probes.model.serving.active_model import ActiveVersion
from mlopsd_probes.model.serving.liveness import Backlog
from mlopsd_probes.registry.registries import Complaint
from mlopsd_probes.registry.version import Version


@dataclass(frozen=True, slots=True)
class Keep:
    """Do nothing until something changes.

    Attributes:
        is_blocked: only a precondition prevents the rollout; force skips preconditions.
    """

    reason: str
    is_blocked: bool = False


@dataclass(frozen=True, slots=True)
class Restore:
    """Load a version from disk that served before."""

    version: Version


@dataclass(frozen=True, slots=True)
class Start:
    """Roll a version out."""

    version: Version


@dataclass(frozen=True, slots=True)
class Cancel:
    """Cancel the rollout in progress."""

    reason: str


Action: TypeAlias = Keep | Restore | Start | Cancel


@dataclass(frozen=True, slots=True)
class Rollout:
    """A rollout in progress.

    Attributes:
        desired: the version that was desired when it began.
        is_serving: it is past the point of no return; only the old version has to end.
        cancelled_because: the reason why it is being cancelled.
    """

    version: Version
    desired: Version | None
    is_serving: bool = False
    cancelled_because: str | None = None

    @property
    def is_named(self) -> bool:
        """Return whether a registry wanted this version when its rollout began."""
        return self.desired is not None and self.desired.id == self.version.id


@dataclass(frozen=True, slots=True)
class Observed:
    """One snapshot of a model on this host, the only input of decisions and readings.

    Attributes:
        desired: the version that this host should serve; None while none is known.
        named: the version that a registry names now; it differs from *desired* if it is held back.
        cached: the versions on disk.
        rejected: rejections by the version's id.
        restoring: a version that is being loaded from disk beside any rollout.
        has_set_aside: no version serves on purpose: the old one was unloaded to make room for the next.
        has_asked: the registries had time to answer since the start.
        is_held: a reload is deciding; nothing else may start a rollout.
        is_reload: a reload decides; versions on disk are rolled out and not restored.
        rollout_at: the earliest time of the next rollout.
        waits: the earliest time of a rollout by version id, for a version whose transfer failed.
        restore_at: the earliest time of the next restore.
        stumbles: failures to restore, by the version's id.
        precondition: the reason why no version may be rolled out now.
        progress: the step in progress.
        complaints: the problems that registries reported.
        reached_at: when a registry last answered.
        drift_since: the time since which *desired* does not serve.
        judgement: the thresholds' verdict on the version in service; None while unknown.
        signature_fault: what is wrong with the signature of the version in service; "" if it is right, None
            while unknown.
        lost: how the last host ended, while no version serves.
        lost_advice: the advice about that loss.
        lost_since: when no version served any more.
        failed_starts: failures in a row to start it again.
        problem: the last failure of the disk or of a task of the daemon.
        restarts: hosts that died, hung or stalled.
        rss: resident bytes of the host.
        canary_behind: callers' requests ahead of an overdue canary.
        backlog: callers' unanswered requests to the version in service.
        is_mismatched: the version in service answered batched requests differently from single ones.
    """

    now: datetime
    desired: Version | None = None
    named: Version | None = None
    serving: ActiveVersion | None = None
    cached: CacheContents = field(default_factory=CacheContents)
    rejected: Mapping[str, Rejection] = field(default_factory=dict)
    in_progress: Rollout | None = None
    restoring: Version | None = None
    has_set_aside: bool = False
    has_asked: bool = False
    is_held: bool = False
    is_reload: bool = False
    rollout_at: datetime | None = None
    waits: Mapping[str, datetime] = field(default_factory=dict)
    restore_at: datetime | None = None
    stumbles: Mapping[str, int] = field(default_factory=dict)
    precondition: str | None = None
    progress: Progress | None = None
    complaints: tuple[Complaint, ...] = ()
    reached_at: datetime | None = None
    drift_since: datetime | None = None
    judgement: Judgement | None = None
    signature_fault: str | None = None
    lost: str | None = None
    lost_advice: Advice = Advice.RESTART_APP
    lost_since: datetime | None = None
    failed_starts: int = 0
    problem: str | None = None
    restarts: int = 0
    rss: int | None = None
    canary_behind: int = 0
    backlog: Backlog = field(default_factory=Backlog)
    is_mismatched: bool = False

    @property
    def held_back(self) -> Version | None:
        """Return the version that a registry names, if a verified version is kept instead."""
        return self.named if self.named != self.desired else None

    @property
    def restorable(self) -> Version | None:
        """Return the version that served here and is about to serve again; None if it failed to load."""
        version = self.first_cached
        return None if version is None or self.stumbles.get(version.id) else version

    @property
    def is_busy(self) -> bool:
        """Return whether a version is being rolled out or restored."""
        return self.in_progress is not None or self.restoring is not None

    @property
    def wanted(self) -> Version | None:
        """Return the version to roll out: the desired one, or the outdated one that serves."""
        if self.desired is None and self.has_asked and self.serving is not None and self.serving.is_outdated:
            return self.serving.kept.version
        return self.desired

    @property
    def first_cached(self) -> Version | None:
        """Return the version to restore: the current one, or the previous one if that fails more often."""
        stumbles = self.stumbles
        return min(self.cached.proven(), key=lambda version: stumbles.get(version.id, 0), default=None)

    @property
    def seconds_to_wait(self) -> float | None:
        """Return the seconds until the next wait is over; None without a wait."""
        rejected = (one.until for one in self.rejected.values())
        moments = [self.rollout_at, self.restore_at, *self.waits.values(), *rejected]
        later = (moment for moment in moments if moment is not None and moment > self.now)
        return min(((moment - self.now).total_seconds() for moment in later), default=None)

    @property
    def complaint_text(self) -> str:
        """Return the complaints in one sentence."""
        reasons = (f"{one.registry}: {one.reason}" for one in self.complaints)
        return "; ".join(reasons) or "nothing was found yet"

    @property
    def why_none(self) -> str:
        """Return the reason why no version serves, for callers."""
        if (rejection := next(iter(self.rejected.values()), None)) is not None:
            return f"{rejection.what} ({rejection.step})"
        return self.lost or self.complaint_text

    def serves(self, version: Version) -> bool:
        """Return whether *version* is in service, whichever candidate named it."""
        return self.serving is not None and self.serving.kept.version.id == version.id

    def for_reload(self, *, is_answered: bool, force: bool) -> "Observed":
        """Return this snapshot as a reload sees it: without rejections and waits.

        Without an answer of a registry, only *force* reloads the version in service.
        """
        desired = self.desired
        if not is_answered:
            if self.serving is not None:
                desired = self.serving.kept.version if force else None
            else:
                desired = desired or self.first_cached
        return replace(
            self,
            desired=desired,
            rejected={},
            has_asked=False,
            is_held=False,
            is_reload=True,
            rollout_at=None,
            waits={},
        )


def plan(seen: Observed, options: ModelOptions, *, force: bool = False) -> Action:
    """Return the next action; the caller acts and plans again until it is `Keep`.

    *force* skips the precondition and reloads a version that already serves.
    """
    if (reason := _obsolete(seen, options)) is not None:
        return Cancel(reason)
    if _may_restore(seen) and (version := seen.first_cached) is not None:
        return Restore(version)
    return _plan_rollout(seen, options, force=force)


def explain_keep(seen: Observed, action: Action) -> str:
    """Return the result of a reload that keeps the version in service.

    Raises:
        ReloadRefused: the reload is rejected; the text gives the reason.
    """
    if (wanted := seen.desired) is None:
        raise ReloadRefused(f"cannot reload: no registry names a version: {seen.complaint_text}")
    if seen.is_busy or not isinstance(action, Keep):
        raise ReloadRefused("cannot reload: a rollout is in progress; try again when it has ended")
    number = wanted.number
    if action.is_blocked:
        fix = "add ?force=true to roll it out anyway"
        raise ReloadRefused(f"cannot roll out version {number}: {action.reason}; {fix}")
    if (fallback := seen.held_back) is not None:
        held = f"{fallback.candidate} is a fallback, version {fallback.number}"
        return f"version {number} keeps serving: {held}"
    return f"version {number} already serves, and the registry names it"


def is_due(serving: ActiveVersion, options: ModelOptions, now: datetime) -> bool:
    """Return whether *serving* must be reloaded although it is the desired version."""
    age = (now - serving.since).total_seconds()
    return serving.is_outdated or (options.on_expiry == "reload" and age > options.cache_ttl)


def _obsolete(seen: Observed, options: ModelOptions) -> str | None:
    """Return the reason to cancel the rollout in progress, or None.

    A version of a later registry is no reason, nor a later candidate with ``fallback = "hold"``.
    """
    rollout, desired = seen.in_progress, seen.desired
    if rollout is None or rollout.is_serving or rollout.cancelled_because is not None:
        return None
    if desired is None:
        return "no registry names it any more" if rollout.is_named else None
    is_new = rollout.desired is None or rollout.desired.id != desired.id
    is_followed = options.fallback == "follow" and desired.registry_rank == rollout.version.registry_rank
    is_better = desired.rank <= rollout.version.rank or is_followed
    if is_new and rollout.version.id != desired.id and is_better:
        return f"a registry names version {desired.number} now"
    return None


def _may_restore(seen: Observed) -> bool:
    if seen.serving is not None or seen.has_set_aside or seen.restoring is not None or seen.is_reload:
        return False
    rollout, version = seen.in_progress, seen.first_cached
    is_rolling = rollout is not None and version is not None and rollout.version.id == version.id
    return not is_rolling and not _is_later(seen.restore_at, seen.now)


def _plan_rollout(seen: Observed, options: ModelOptions, *, force: bool) -> Action:
    wanted = seen.wanted
    if wanted is None:
        return Keep("no version is wanted")
    if (reason := _why_wait(seen, wanted)) is not None:
        return Keep(reason)
    serving = seen.serving
    if serving is None and not seen.is_reload:  # nothing to lose: no precondition
        is_restored = any(version.id == wanted.id for version in seen.cached.proven())
        return Keep(f"version {wanted.number} is restored from disk") if is_restored else Start(wanted)
    if serving is not None and seen.serves(wanted) and not force and not _is_due(seen, serving, options):
        return Keep(f"version {wanted.number} serves")
    if seen.precondition is not None and not force:
        return Keep(seen.precondition, is_blocked=True)
    return Start(wanted)


def _why_wait(seen: Observed, wanted: Version) -> str | None:
    if seen.is_busy:
        return "a rollout is in progress"
    if seen.is_held:
        return "a reload is deciding"
    if (rejection := seen.rejected.get(wanted.id)) is not None and _is_later(rejection.until, seen.now):
        return rejection.what
    if _is_later(seen.rollout_at, seen.now) or _is_later(seen.waits.get(wanted.id), seen.now):
        return "the last rollout failed a moment ago"
    return None


def _is_due(seen: Observed, serving: ActiveVersion, options: ModelOptions) -> bool:
    """Return whether *serving* is loaded again; a reload verifies an expired version, and that is enough."""
    return serving.is_outdated if seen.is_reload else is_due(serving, options, seen.now)


def _is_later(moment: datetime | None, now: datetime) -> bool:
    return moment is not None and now < moment
