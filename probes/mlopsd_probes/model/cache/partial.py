"""The folders of unfinished downloads, which a later attempt continues.

Each is below the cache of its model::

    VERSION-ID.part/files/      the files, complete or not
    VERSION-ID.part/journal     their record, see `mlopsd_probes.registry.journal`
"""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from mlopsd_probes.model.cache.files import below, tidy

PART = ".part"  # suffix of the folder
FILES = "files"
MOST = 2  # unfinished downloads that are kept beside the one that runs
OLDEST_SECONDS = 7 * 86400.0


def open_part(part: Path) -> Path:
    """Return the folder for the files of *part*, with those that came before."""
    files = part / FILES
    files.mkdir(0o750, parents=True, exist_ok=True)
    return files


def release(part: Path) -> None:
    """Remove *part* if a download left no byte in it."""
    if not any(path.is_file() and path.lstat().st_size for path in below(part)):  # blocks are counted late
        tidy(part)


def prune(folder: Path, running: Path | None = None, *, keep: int = MOST) -> None:
    """Remove the parts in *folder* that are too many, too old or too large; spare *running*.

    Together the others may take as many bytes as are free beside them.
    """
    others = [part for part in folder.glob(f"*{PART}") if part != running]
    stays = set(_fitting(sorted(others, key=_age)[:keep], shutil.disk_usage(folder).free))
    for part in others:
        if part not in stays:
            tidy(part)


def _fitting(parts: list[Path], free: int) -> Iterator[Path]:
    """Yield the young *parts*, newest first, as long as they fit into *free* bytes."""
    used = 0
    for part in parts:
        used += sum(map(_size, below(part)))
        if used <= free and _age(part) <= OLDEST_SECONDS:
            yield part


def _age(part: Path) -> float:
    """Return the seconds since the last file of *part* began or ended."""
    journal = part / "journal"
    return time.time() - (journal if journal.exists() else part).stat().st_mtime


def _size(path: Path) -> int:
    return path.lstat().st_blocks * 512 if path.is_file() else 0
