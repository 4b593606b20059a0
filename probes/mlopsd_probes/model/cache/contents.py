"""The contents of the cache: which complete versions are on this host's disk."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from mlopsd_probes.model.options import ModelOptions
from mlopsd_probes.model.version import CachedVersion
from mlopsd_probes.registry.version import Version


@dataclass(frozen=True, slots=True)
class CacheContents:
    """The complete versions of one model on this host's disk.

    Attributes:
        current: the version that was chosen last.
        previous: the version that was chosen before it.
        others: complete versions that were never chosen.
        broken: a sentence for each unusable file or folder.
    """

    current: CachedVersion | None = None
    previous: CachedVersion | None = None
    others: tuple[CachedVersion, ...] = ()
    broken: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[CachedVersion]:
        return (kept for kept in (self.current, self.previous, *self.others) if kept is not None)

    def find(self, version: Version) -> CachedVersion | None:
        """Return the files of *version* on disk, with the candidate that names it now."""
        found = (kept for kept in self if kept.version.id == version.id)
        return next((replace(kept, version=version) for kept in found), None)

    def proven(self) -> list[Version]:
        """Return the versions that passed their canary here, the current one first."""
        return [kept.version for kept in (self.current, self.previous) if kept is not None and kept.proven]

    def without(self, kept: CachedVersion) -> "CacheContents":
        """Return the contents without the version of *kept*."""
        return self._changed(lambda one: None if one.version.id == kept.version.id else one)

    def with_fetched(self, kept: CachedVersion) -> "CacheContents":
        """Return the contents with *kept*, which replaces every other version that was never chosen."""
        return replace(self.without(kept), others=(kept,))

    def with_known(self, kept: CachedVersion) -> "CacheContents":
        """Return the contents with *kept* in place of the older record of its version."""
        return self._changed(lambda one: kept if one.version.id == kept.version.id else one)

    def ranked(self, options: ModelOptions) -> "CacheContents":
        """Return the contents with the ranks that *options* give today."""
        return self._changed(lambda kept: replace(kept, version=_ranked(kept.version, options)))

    def _changed(self, change: Callable[[CachedVersion], CachedVersion | None]) -> "CacheContents":
        return replace(
            self,
            current=None if self.current is None else change(self.current),
            previous=None if self.previous is None else change(self.previous),
            others=tuple(one for other in self.others if (one := change(other)) is not None),
        )


def _ranked(version: Version, options: ModelOptions) -> Version:
    """Return *version* with its ranks in *options*; a name that is no longer in them ranks last.

    Forget its tag, which may have changed since.
    """
    labels = [registry.label for registry in options.registries]
    return replace(
        version,
        candidate_rank=_place(version.candidate, options.candidates),
        registry_rank=_place(version.registry, labels),
        tagged_digest=None,
    )


def _place(name: str, names: Sequence[str]) -> int:
    return names.index(name) if name in names else len(names)
