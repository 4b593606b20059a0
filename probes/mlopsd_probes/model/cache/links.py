"""Hard links between the versions of the cache, for files with the same content."""

from collections.abc import Iterable
from pathlib import Path

from mlopsd_probes.registry.version import File

LINKING = ".linking"  # suffix of a link that is about to replace a file


def linked(source: Path, known: Iterable[File], target: Path, files: Iterable[File]) -> frozenset[str]:
    """Return the paths of the *known* files in *source* that the download has linked into *target*."""
    by_digest = {(file.sha256, file.size): target / file.path for file in files}
    return frozenset(
        file.path
        for file in known
        if (path := by_digest.get((file.sha256, file.size))) and path.samefile(source / file.path)
    )


def link_same(source: Path, known: Iterable[File], target: Path, files: Iterable[File]) -> bool:
    """Replace the *files* in *target* by links to those *known* in *source* with the same digest.

    Only files whose content was compared in this boot may be *known*. Return whether there was one.
    """
    by_digest = {(file.sha256, file.size): source / file.path for file in known if file.size}
    same = [(file, by_digest[key]) for file in files if (key := (file.sha256, file.size)) in by_digest]
    for file, original in same:
        _replace(target / file.path, original)
    return bool(same)


def _replace(path: Path, original: Path) -> None:
    """Make *path* a link to *original*; leave it as it is where the file system cannot link."""
    if path.samefile(original):  # to rename one of two links of a file would leave both
        return
    linking = path.with_name(f"{path.name}{LINKING}")
    try:
        linking.hardlink_to(original)
    except OSError:
        return
    linking.replace(path)
