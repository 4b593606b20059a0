"""The disk under the cache: names, removals and writes that leave the old state or the new."""

import errno
import hashlib
import logging
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from mlopsd.file_tree import remove_tree

ASIDE = ".aside"  # the end of the name of what is of no use, and was not removed yet
WRITING = ".writing"  # the end of a file's name until it is whole
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
    """The disk will not have it: "cannot X: cause; cure"."""

    @classmethod
    def of(cls, what: str, folder: Path, error: OSError) -> "StoreError":
        """Return what *error* means for somebody who wanted to do *what* in *folder*."""
        fix = FIXES.get(error.errno or 0, "look at the disk")
        return cls(f"cannot {what} in {folder}: {error.strerror or error}; {fix}")


def file_name(text: str) -> str:
    """*text*, which may be anything, as the name of one file."""
    name = quote(text, safe=" ")
    if name.startswith("."):
        name = f"%2E{name[1:]}"
    if len(name) > LONGEST_NAME:
        name = f"{name[:LONGEST_NAME]}-{hashlib.blake2b(text.encode(), digest_size=6).hexdigest()}"
    return name


def write(path: Path, content: bytes) -> None:
    """Have *content* in *path*, whole, or leave what was there."""
    writing = path.with_name(path.name + WRITING)
    try:
        with writing.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        writing.replace(path)
    except OSError:
        writing.unlink(missing_ok=True)
        raise
    sync(path.parent)


def remove(path: Path) -> None:
    """Remove *path* and what is in it, if it is there; move aside what cannot be removed.

    Raises:
        OSError: it cannot be moved either.
    """
    if not tidy(path):
        path.rename(path.with_name(f"{secrets.token_hex(8)}{ASIDE}"))


def tidy(path: Path) -> bool:
    """Remove *path* and what is in it as far as that goes, and log what is left; whether all is gone."""
    left = remove_tree(path)
    if left is not None:
        log.warning("files left behind", extra={"reason": left})
    return left is None


def below(folder: Path) -> Iterator[Path]:
    """Everything in *folder*, at any depth; links are not followed."""
    pending = [str(folder)]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                yield Path(entry.path)


def sync(path: Path) -> None:
    """Have *path* on the disk and not only in memory; a link has nothing of its own."""
    if path.is_symlink():
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
