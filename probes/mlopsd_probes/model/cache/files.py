"""Names, removals and atomic writes in the folder of the cache."""

import errno
import hashlib
import logging
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from mlopsd.file_tree import remove_tree

ASIDE = ".aside"  # suffix of a file or folder that still has to be removed
LONGEST_NAME = 120  # characters; a file system takes 255 bytes
FIXES = {
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room, or raise the quota",
    errno.EROFS: "mount it writable, or set state_dir",
    errno.EACCES: "make it writable for the daemon's user",
    errno.EPERM: "make it writable for the daemon's user",
}
log = logging.getLogger("mlopsd.probe.disk")


class StoreError(Exception):
    """A failure of the disk, in the form "cannot X: reason; fix"."""

    @classmethod
    def of(cls, what: str, folder: Path, error: OSError) -> "StoreError":
        """Return the error that *what* failed in *folder* with *error*."""
        fix = FIXES.get(error.errno or 0, "check the disk")
        return cls(f"cannot {what} in {folder}: {error.strerror or error}; {fix}")


def file_name(text: str) -> str:
    """Return a file name for *text*, which may be any string."""
    name = quote(text, safe=" ")
    if name.startswith("."):
        name = f"%2E{name[1:]}"
    if len(name) > LONGEST_NAME:
        name = f"{name[:LONGEST_NAME]}-{hashlib.blake2b(text.encode(), digest_size=6).hexdigest()}"
    return name


def remove(path: Path) -> None:
    """Remove *path* and its contents, if it exists; rename what cannot be removed to `ASIDE`.

    Raises:
        OSError: it cannot be renamed either.
    """
    if not tidy(path):
        path.rename(path.with_name(f"{secrets.token_hex(8)}{ASIDE}"))


def tidy(path: Path) -> bool:
    """Remove *path* and its contents, and log what cannot be removed; return whether all is gone."""
    left = remove_tree(path)
    if left is not None:
        log.warning("files left behind", extra={"reason": left})
    return left is None


def below(folder: Path) -> Iterator[Path]:
    """Yield every path in *folder*, at any depth, without following links."""
    pending = [str(folder)]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                yield Path(entry.path)
