"""How the life of a model stands at one moment: all that a reading is made of."""

from dataclasses import dataclass, field
from datetime import datetime

from mlopsd.probe import Advice
from mlopsd_probes.model.progress import Progress
from mlopsd_probes.model.rollout.rejections import Rejection
from mlopsd_probes.model.rollout.thresholds import Judgement
from mlopsd_probes.model.serving.active_model import ActiveVersion
from mlopsd_probes.model.serving.liveness import Backlog
from mlopsd_probes.model.version import Version
from mlopsd_probes.registry.registries import Complaint


@dataclass(frozen=True, slots=True)
class RolloutStatus:
    """One moment.

    Attributes:
        desired: the version that the registry wants here; None while none is known.
        held_back: a fallback that is not taken because a proven version serves.
        complaints: what registries said instead of an answer.
        reached_at: when a registry last answered.
        drift_since: since when *desired* is not what serves.
        judgement: what the thresholds say of the version in service; None while nobody could ask.
        lost: how the last host ended, while no version is in service.
        lost_advice: what to do about that.
        obstacle: why a version is not taken up for now.
        trouble: what the disk of the cache complains of.
        restarts: hosts that died, hung or stalled.
        rss: resident bytes of the host.
        canary_behind: callers' requests that an overdue canary waits for.
        backlog: what callers of the version in service wait for.
        is_mismatched: whether the version in service answered joined requests otherwise than single ones.
    """

    now: datetime
    desired: Version | None
    serving: ActiveVersion | None
    held_back: Version | None
    complaints: tuple[Complaint, ...]
    reached_at: datetime | None
    drift_since: datetime | None
    refusals: tuple[Rejection, ...]
    progress: Progress | None
    judgement: Judgement | None
    lost: str | None
    lost_advice: Advice
    obstacle: str | None
    trouble: str | None
    restarts: int
    rss: int | None
    canary_behind: int = 0
    backlog: Backlog = field(default_factory=Backlog)
    is_mismatched: bool = False
