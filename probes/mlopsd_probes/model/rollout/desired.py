"""What the registries want on this host, as far as they have said so."""

from datetime import datetime
from typing import Literal

from mlopsd_probes.model.rollout.context import RolloutContext
from mlopsd_probes.model.rollout.thresholds import Judgement, judge
from mlopsd_probes.model.serving.active_model import ActiveVersion
from mlopsd_probes.model.version import Version
from mlopsd_probes.registry.registries import Complaint, RegistryError


class DesiredVersion:
    """Remembers the last answer of the registries.

    Attributes:
        desired: the version that is wanted here; None while none is known.
        held_back: a fallback that is not taken because a proven version serves.
        reached_at: when a registry last named a version.
    """

    def __init__(self, means: RolloutContext) -> None:
        self._means = means
        self.desired: Version | None = None
        self.held_back: Version | None = None
        self.reached_at: datetime | None = None
        self._complaints: tuple[Complaint, ...] = ()
        self._unmet: tuple[Version, Complaint] | None = None
        self._judged: dict[str, Judgement] = {}  # by the version's id

    @property
    def complaints(self) -> tuple[Complaint, ...]:
        """What registries said instead of an answer, of which version, and of its metrics or files."""
        return self._complaints if self._unmet is None else (*self._complaints, self._unmet[1])

    def complaint_text(self) -> str:
        """The complaints in one sentence."""
        said = (f"{one.registry}: {one.reason}" for one in self.complaints)
        return "; ".join(said) or "nothing was found yet"

    async def ask(self, serving: ActiveVersion | None) -> Version | None:
        """The version that a registry names now; a fallback is held back while a better named one serves.

        Where every registry answers and none names a version, none is wanted any more.
        """
        resolution = await self._means.registries.resolve()
        self._complaints = resolution.complaints
        if (found := resolution.found) is None:
            if resolution.is_denial:
                self.desired = self.held_back = self._unmet = None
            return None
        self.reached_at = self._means.now()
        proven = serving.kept.version if serving is not None and serving.proven_at is not None else None
        desired = proven if proven is not None and found.rank > proven.rank else found
        self.held_back = None if desired is found else found
        self.desired = desired
        is_served = serving is not None and serving.kept.version.id == desired.id
        if self._unmet is not None and (is_served or self._unmet[0].id != desired.id):
            self._unmet = None
        return found

    async def judge(self, version: Version) -> Judgement:
        """What the thresholds say of *version*, by the metrics of its run as they are now.

        Raises:
            RegistryError: they cannot be had.
        """
        options = self._means.options
        if not options.thresholds:
            return Judgement()
        try:
            metrics = await self._means.registries.metrics(version)
        except RegistryError as error:
            raise self.unmet(version, "metrics", error.complaint.kind, error.complaint.reason) from error
        self.met()
        self._judged[version.id] = judgement = judge(metrics, options.thresholds, options.on_missing)
        return judgement

    def unmet(
        self, version: Version, what: Literal["metrics", "files"], kind: str, reason: str
    ) -> RegistryError:
        """To be raised: its registry did not give *what* of *version*; it is complained of until it does."""
        said = f"the {what} of version {version.number} cannot be had: {reason}"
        complaint = Complaint(version.registry, kind, said, what)
        self._unmet = version, complaint
        return RegistryError(complaint)

    def met(self) -> None:
        """A registry gave what it was asked for."""
        self._unmet = None

    def judgement(self, version: Version) -> Judgement | None:
        """What the thresholds said of *version* since the start; None if nobody could ask."""
        return self._judged.get(version.id)
