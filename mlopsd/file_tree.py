"""Removes trees that somebody else has shaped: of any depth, with any names, modes and links."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

AT_A_TIME = 10_000  # folders of one folder that are held in memory
ATTEMPTS = 3  # of a tree that somebody moves meanwhile, or fills
FOLDER = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
Identity = tuple[int, int]


def remove_tree(path: Path) -> str | None:
    """Remove *path* and all that is in it; why something of it is left, or None.

    It neither recurses nor follows a link, holds few descriptors at any depth, and raises no `OSError`.
    A folder that its mode closes is opened first. What is gone already is as good as removed.
    """
    left = None
    for _ in range(ATTEMPTS):
        try:
            left = _attempt(path)
        except FileNotFoundError:  # the folder around it is gone
            return None
        except OSError as error:
            left = _said(path.name, error)
        if left is None:
            return None
    return f"cannot remove all of {path}: {left}"


def _attempt(path: Path) -> str | None:
    """Remove as much of *path* as can be; the first reason why not all."""
    with _opened(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) as above:
        if not _is_folder(path.name, above):
            return _unlinked(path.name, above)
        removal = _Removal(above)
        try:
            return removal.run(path.name)
        finally:
            removal.close()


@dataclass(slots=True)
class _Level:
    """A folder on the way down.

    Attributes:
        stuck: the folders in it that cannot be removed.
        pending: those in it that were not looked at yet.
        is_cut: whether there may be more of them than *pending* has.
    """

    name: str
    identity: Identity
    stuck: set[str] = field(default_factory=set)
    pending: list[str] = field(default_factory=list)
    is_cut: bool = True


class _Removal:
    """One walk through a tree, by steps of one name down and ``..`` up, from a folder that stays open."""

    def __init__(self, above: int) -> None:
        self._above = above
        self._here = -1
        self._levels: list[_Level] = []
        self._left: str | None = None

    def run(self, name: str) -> str | None:
        """Remove the folder *name* of the folder above; why something is left.

        Raises:
            OSError: somebody moved a folder while we were in it, or no descriptor is left.
        """
        self._enter(name, self._above)
        while self._levels:
            level = self._levels[-1]
            if not level.pending and level.is_cut:
                self._scan(level)
            if level.pending:
                self._enter(level.pending.pop(), self._here)
            else:
                self._leave()
        return self._left

    def close(self) -> None:
        if self._here >= 0:
            os.close(self._here)

    def _enter(self, name: str, above: int) -> None:
        """Step into the folder *name* of *above*, or note why not."""
        try:
            inside = _open_folder(name, above)
        except FileNotFoundError:
            return
        except OSError as error:
            self._stay(name, error)
            return
        self._step(inside)
        self._levels.append(_Level(name, _identity(inside)))

    def _scan(self, level: _Level) -> None:
        """Remove what is no folder, and note which folders there are."""
        level.is_cut = False
        try:
            with os.scandir(self._here) as entries:
                for entry in entries:
                    if not entry.is_dir(follow_symlinks=False):
                        self._keep(_unlinked(entry.name, self._here))
                    elif entry.name not in level.stuck:
                        level.pending.append(entry.name)
                    if len(level.pending) >= AT_A_TIME:
                        level.is_cut = True
                        return
        except OSError as error:
            self._keep(_said(level.name, error))

    def _leave(self) -> None:
        """Step up, and remove the folder that was left."""
        level = self._levels.pop()
        if self._levels:
            outside = os.open("..", os.O_RDONLY | FOLDER, dir_fd=self._here)
            self._step(outside)
            if _identity(outside) != self._levels[-1].identity:
                raise OSError(0, "somebody moved it meanwhile")
        above = self._here if self._levels else self._above
        try:
            os.rmdir(level.name, dir_fd=above)
        except FileNotFoundError:
            return
        except OSError as error:
            self._stay(level.name, error)

    def _stay(self, name: str, error: OSError) -> None:
        if self._levels:
            self._levels[-1].stuck.add(name)
        self._keep(_said(name, error))

    def _keep(self, reason: str | None) -> None:
        self._left = self._left or reason

    def _step(self, descriptor: int) -> None:
        self.close()
        self._here = descriptor


def _open_folder(name: str, above: int) -> int:
    """A descriptor of the folder *name* of *above*, which its owner may read, write and search from now on.

    Raises:
        OSError: it is not there, no folder, or not ours.
    """
    with _opened(name, os.O_PATH | FOLDER, above) as found:
        if os.fstat(found).st_mode & stat.S_IRWXU != stat.S_IRWXU:
            with suppress(PermissionError):  # not ours to change, and perhaps ours to use
                os.chmod(f"/proc/self/fd/{found}", stat.S_IRWXU)  # noqa: PTH101  # no path leads there
        return os.open(".", os.O_RDONLY | FOLDER, dir_fd=found)


@contextmanager
def _opened(name: str | Path, flags: int, above: int | None = None) -> Iterator[int]:
    descriptor = os.open(name, flags, dir_fd=above)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _is_folder(name: str, above: int) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=above, follow_symlinks=False).st_mode)


def _unlinked(name: str, above: int) -> str | None:
    """Remove the file, link or socket *name*; why it is still there."""
    try:
        os.unlink(name, dir_fd=above)  # a name in an open folder is no path
    except FileNotFoundError:
        return None
    except OSError as error:
        return _said(name, error)
    return None


def _identity(descriptor: int) -> Identity:
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino


def _said(name: str, error: OSError) -> str:
    return f"{name!r}: {error.strerror or error}"
