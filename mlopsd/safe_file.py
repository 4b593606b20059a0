"""Reads and atomic writes of small files, in a folder where others may have put a FIFO or a link."""

import errno
import os
import stat
from pathlib import Path

WRITING = ".writing"  # suffix of a file until it is complete
MODE = 0o640


class IrregularFile(OSError):
    """The error of a path that leads to a FIFO, a device or a folder."""


def open_regular(path: Path, flags: int) -> int:
    """Return a descriptor of the regular file *path*. Never wait for a FIFO, and follow no link.

    Raises:
        IrregularFile: It is no regular file.
        OSError: It cannot be opened.
    """
    try:
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, MODE)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR):
            raise _irregular(path) from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _irregular(path)
    return descriptor


def read_regular(path: Path) -> bytes:
    """Return the content of the regular file *path*.

    Raises:
        IrregularFile: It is no regular file.
        OSError: It cannot be read.
    """
    with os.fdopen(open_regular(path, os.O_RDONLY), "rb") as stream:
        return stream.read()


def read_start(path: Path, most: int) -> bytes:
    """Return the content of the regular file that *path* leads to, at most *most* bytes.

    Raises:
        IrregularFile: It is no regular file.
        OSError: It cannot be read.
    """
    with os.fdopen(open_regular(path.resolve(), os.O_RDONLY), "rb") as stream:
        return stream.read(most)


def write_atomically(path: Path, content: bytes) -> None:
    """Write *content* to *path*: after an error or a loss of power the old file stays.

    Raises:
        OSError: It cannot be written.
    """
    writing = path.with_name(path.name + WRITING)
    writing.unlink(missing_ok=True)
    try:
        descriptor = os.open(writing, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, MODE)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        writing.replace(path)
    except OSError:
        writing.unlink(missing_ok=True)
        raise
    sync(path.parent)


def sync(path: Path) -> None:
    """Flush *path* to the disk; a link has no content to flush."""
    if path.is_symlink():
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _irregular(path: Path) -> IrregularFile:
    return IrregularFile(errno.EINVAL, "it is not a regular file", str(path))
