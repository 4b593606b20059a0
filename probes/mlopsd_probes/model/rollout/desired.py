"""The version that the registries want on this host."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Literal

from mlopsd_probes.model.options import ModelOptions
from mlopsd_probes.model.rollout.provenance import files_fault
from mlopsd_probes.model.rollout.thresholds import Judgement, judge
from mlopsd_probes.model.version import CachedVersion
from mlopsd_probes.registry.registries import NOT_YET, Complaint, Registries, RegistryError
from mlopsd_probes.registry.version import Version


class DesiredVersion:
    """Remembers the last answer of the registries.

    Attributes:
        desired: the version that is wanted here; None while none is known.
        named: the version that a registry names now; None if none does, or no registry answers.
        reached_at: when a registry last named a version.
    """

    def __init__(self, options: ModelOptions, registries: Registries, now: Callable[[], datetime]) -> None:
        self._options = options
        self._registries = registries
        self._now = now
        self.desired: Version | None = None
        self.named: Version | None = None
        self.reached_at: datetime | None = None
        self._complaints: tuple[Complaint, ...] = ()
        self._unmet: tuple[Version, Complaint] | None = None
        self._judged: dict[str, Judgement] = {}  # by the version's id
        self._signatures: dict[str, str] = {}  # by the version's id: "", or what is wrong with it

    @property
    def complaints(self) -> tuple[Complaint, ...]:
        """Return the problems of the registries, also with the metrics or files of a version."""
        return self._complaints if self._unmet is None else (*self._complaints, self._unmet[1])

    async def ask(self, served: Version | None, *, is_verified: bool) -> Version | None:
        """Return the version that a registry names now, and set *desired* from it.

        The *served* version stays desired if it *is_verified* and `_holds`. No version is desired any more
        once every registry answers and none names one.
        """
        resolution = await self._registries.resolve()
        self._complaints = resolution.complaints
        self.named = found = resolution.found
        if found is None:
            if resolution.is_denial:
                self.desired = self._unmet = None
            return None
        self.reached_at = self._now()
        is_held = served is not None and is_verified and self._holds(served, found)
        self.desired = desired = served if served is not None and is_held else found
        is_served = served is not None and served.id == desired.id
        if self._unmet is not None and (is_served or self._unmet[0].id != desired.id):
            self._unmet = None
        return found

    def _holds(self, served: Version, found: Version) -> bool:
        """Return whether the verified *served* version stays although a registry names *found*.

        A later registry never replaces it: the first one may only be down. A later candidate of the same
        registry does with ``fallback = "follow"``. It waits while an earlier one leads to a version that is
        not ready or not approved yet.
        """
        if found.id == served.id or found.rank <= served.rank:
            return False
        if found.registry_rank > served.registry_rank or self._options.fallback == "hold":
            return True
        return any(one.registry == found.registry and one.kind in NOT_YET for one in self._complaints)

    async def judge(self, version: Version) -> Judgement:
        """Compare the current metrics of *version* with the thresholds.

        Raises:
            RegistryError: the registry does not give the metrics.
        """
        options = self._options
        if not options.thresholds:
            return Judgement()
        try:
            metrics = await self._registries.metrics(version)
        except RegistryError as error:
            raise self.unmet(version, "metrics", error.complaint) from error
        self.met()
        self._judged[version.id] = judgement = judge(metrics, options.thresholds, options.on_missing)
        return judgement

    async def attest(self, kept: CachedVersion) -> str | None:
        """Return a sentence if the files of *kept* are not the registered ones.

        Raises:
            RegistryError: its signature cannot be checked.
        """
        if (fault := files_fault(kept, self._options)) is not None:
            return fault
        if self._options.signature.public_key is None:
            return None
        try:
            found = await self._registries.attest(kept.version, Path(kept.folder), kept.files)
        except RegistryError as error:
            raise self.unmet(kept.version, "signature", error.complaint) from error
        self.met()
        self._signatures[kept.version.id] = found or ""
        return found

    def note_signed(self, version: Version) -> None:
        """Record that a download has verified the signature of *version*."""
        self._signatures[version.id] = ""

    def signature_fault(self, version: Version) -> str | None:
        """Return a sentence if the signature of *version* is wrong, "" if it is right; None while unknown."""
        return self._signatures.get(version.id)

    def unmet(
        self, version: Version, what: Literal["metrics", "files", "signature"], because: Complaint
    ) -> RegistryError:
        """Return an error to raise: the registry or its store did not give *what* of *version*.

        Keep it as a complaint until `met` is called or another version is desired.
        """
        done = "verified" if what == "signature" else "had"
        sentence = f"the {what} of version {version.number} cannot be {done}: {because.reason}"
        complaint = replace(because, reason=sentence, asked_for=what)
        self._unmet = version, complaint
        return RegistryError(complaint)

    def met(self) -> None:
        """Forget the complaint about metrics or files: a registry gave them."""
        self._unmet = None

    def judgement(self, version: Version) -> Judgement | None:
        """Return the last judgement of *version* since the start; None if there was none."""
        return self._judged.get(version.id)
