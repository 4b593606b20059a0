"""The versions of one model whose files are on this host's disk, whole."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from mlopsd_probes.model.options import ModelOptions
from mlopsd_probes.model.version import CachedVersion, Version


@dataclass(frozen=True, slots=True)
class CacheContents:
    """The versions on disk.

    Attributes:
        current: the version that was chosen last.
        previous: the one that was chosen before it.
        others: whole, but never chosen.
        broken: what was found and is of no use, and why; it has been removed.
    """

    current: CachedVersion | None = None
    previous: CachedVersion | None = None
    others: tuple[CachedVersion, ...] = ()
    broken: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[CachedVersion]:
        return (kept for kept in (self.current, self.previous, *self.others) if kept is not None)

    def find(self, version: Version) -> CachedVersion | None:
        """*version* on disk, by whichever name it is wanted now."""
        found = (kept for kept in self if kept.version.id == version.id)
        return next((replace(kept, version=version) for kept in found), None)

    def proven(self) -> list[Version]:
        """The versions that served here, the current one first."""
        return [kept.version for kept in (self.current, self.previous) if kept is not None and kept.proven]

    def without(self, kept: CachedVersion) -> "CacheContents":
        """This shelf after the version of *kept* is gone."""
        return self._changed(lambda one: None if one.version.id == kept.version.id else one)

    def with_fetched(self, kept: CachedVersion) -> "CacheContents":
        """This shelf when *kept* has come, for which every other that was never chosen had to go."""
        return replace(self.without(kept), others=(kept,))

    def with_known(self, kept: CachedVersion) -> "CacheContents":
        """Return this shelf with what is known of the version of *kept* now."""
        return self._changed(lambda one: kept if one.version.id == kept.version.id else one)

    def ranked(self, options: ModelOptions) -> "CacheContents":
        """This shelf with the ranks that *options* give, which may not be those of the day it was filled."""
        return self._changed(lambda kept: replace(kept, version=ranked(kept.version, options)))

    def _changed(self, change: Callable[[CachedVersion], CachedVersion | None]) -> "CacheContents":
        return replace(
            self,
            current=None if self.current is None else change(self.current),
            previous=None if self.previous is None else change(self.previous),
            others=tuple(one for other in self.others if (one := change(other)) is not None),
        )


def ranked(version: Version, options: ModelOptions) -> Version:
    """*version* with its ranks by *options*; what they no longer name comes after all that they do."""
    labels = [registry.label for registry in options.registries]
    return replace(
        version,
        candidate_rank=_place(version.candidate, options.candidates),
        registry_rank=_place(version.registry, labels),
    )


def _place(name: str, names: "tuple[str, ...] | list[str]") -> int:
    return names.index(name) if name in names else len(names)
