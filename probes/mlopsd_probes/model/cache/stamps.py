"""The stamps of files whose SHA-256 was compared in this boot of the host.

A file with the same stamp is not hashed again. After a restart of the host each file is hashed once.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from mlopsd.safe_file import IrregularFile, read_regular, write_atomically
from mlopsd_probes.registry.journal import BOOT_ID, stamp_of
from mlopsd_probes.registry.version import File

SUFFIX = ".stamps"


@dataclass(frozen=True, slots=True)
class Stamps:
    """The stamps of a version's files: size, modification, change and inode of each, by its path."""

    boot: str
    files: dict[str, tuple[int, ...]]

    def shared(self, other: "Stamps") -> frozenset[str]:
        """Return the paths that have the same stamp in *other*, of the same boot."""
        if self.boot != other.boot:
            return frozenset()
        return frozenset(path for path, stamp in self.files.items() if other.files.get(path) == stamp)


STAMPS = TypeAdapter(Stamps)


def take(folder: Path, files: Iterable[File]) -> Stamps:
    """Return the stamps of those *files* that are in *folder*."""
    boot = BOOT_ID.read_text("ascii").strip()
    return Stamps(
        boot, {file.path: stamp_of(path) for file in files if (path := folder / file.path).is_file()}
    )


def save(path: Path, stamps: Stamps) -> None:
    """Write *stamps* to the file *path*."""
    write_atomically(path, STAMPS.dump_json(stamps))


def load(path: Path) -> Stamps:
    """Return the stamps in the file *path*, none if it has none."""
    try:
        return STAMPS.validate_json(read_regular(path))
    except (FileNotFoundError, IrregularFile, ValidationError):
        return Stamps("", {})
