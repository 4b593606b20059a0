"""A version of a registered model with its files on the disk of this host."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlopsd_probes.registry.version import File, Version

__all__ = ["CachedVersion", "File", "Version"]


@dataclass(frozen=True, slots=True)
class CachedVersion:
    """A version whose files are on disk, whole.

    Attributes:
        folder: where they are, an absolute path.
        files: every file, as it was when it was fetched.
        proven: whether its canary passed on this host once.
        notes: what was learnt of it (the memory that its load needed, in bytes, under ``load_bytes``).
    """

    version: Version
    folder: str
    files: tuple[File, ...]
    proven: bool = False
    notes: Mapping[str, Any] | None = None
