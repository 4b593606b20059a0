"""A version of a registered model with its files on this host's disk."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from mlopsd_probes.registry.version import File, Version, digest_of


@dataclass(frozen=True, slots=True)
class CachedVersion:
    """A version whose files are complete on disk.

    Attributes:
        folder: the absolute path of the files.
        files: every file, with its size and hash when it was fetched.
        proven: whether its canary has passed on this host.
        notes: measurements of its load, such as ``load_bytes``, the memory that it needed.
        unchanged: paths of files that were compared in this boot and have not changed since.
    """

    version: Version
    folder: str
    files: tuple[File, ...]
    proven: bool = False
    notes: Mapping[str, Any] | None = None
    unchanged: frozenset[str] = frozenset()

    def located(self) -> Iterator[File]:
        """Yield every file with its absolute path."""
        return (replace(file, path=f"{self.folder}/{file.path}") for file in self.files)

    @property
    def digest(self) -> str:
        """The digest of the version, from the hashes that were taken when it was fetched."""
        return digest_of(self.files)
