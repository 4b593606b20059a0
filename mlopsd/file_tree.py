"""The removal of foreign folder trees, of any depth and with any names, modes and links."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

AT_A_TIME = 10_000  # subfolders of one folder that are held in memory
ATTEMPTS = 3  # for a tree that another process moves or fills meanwhile
FOLDER = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
Identity = tuple[int, int]


def remove_tree(path: Path) -> str | None:
    """Remove *path* with its contents; return None, or why a part is left.

    The removal does not recurse, follows no link, holds few descriptors at any depth, and raises no
    `OSError`. It opens the mode of a closed folder first. A missing file counts as removed.
    """
    left = None
    for _ in range(ATTEMPTS):
        try:
            left = _attempt(path)
        except FileNotFoundError:  # the folder around it is gone
            return None
        except OSError as error:
            left = _reason(path.name, error)
        if left is None:
            return None
    return f"cannot remove all of {path}: {left}"


def _attempt(path: Path) -> str | None:
    """Remove as much of *path* as possible; return the first reason why a part is left."""
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
        name: Its name.
        identity: Its device and inode.
        stuck: Its subfolders that cannot be removed.
        pending: Its subfolders that were not visited yet.
        is_cut: True if there may be more subfolders than *pending* has.
    """

    name: str
    identity: Identity
    stuck: set[str] = field(default_factory=set)
    pending: list[str] = field(default_factory=list)
    is_cut: bool = True


class _Removal:
    """One walk through a tree, down by one name and up by ``..``, from a folder that stays open."""

    def __init__(self, above: int) -> None:
        self._above = above
        self._here = -1
        self._levels: list[_Level] = []
        self._left: str | None = None

    def run(self, name: str) -> str | None:
        """Remove the folder *name* of the folder above; return None, or why a part is left.

        Raises:
            OSError: Another process moved a folder during the walk, or no descriptor is left.
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
        """Step into the folder *name* of *above*, or record why that fails."""
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
        """Remove all entries that are not folders, and record the subfolders."""
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
            self._keep(_reason(level.name, error))

    def _leave(self) -> None:
        """Step up, and remove the folder below."""
        level = self._levels.pop()
        if self._levels:
            outside = os.open("..", os.O_RDONLY | FOLDER, dir_fd=self._here)
            self._step(outside)
            if _identity(outside) != self._levels[-1].identity:
                raise OSError(0, "another process moved it meanwhile")
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
        self._keep(_reason(name, error))

    def _keep(self, reason: str | None) -> None:
        self._left = self._left or reason

    def _step(self, descriptor: int) -> None:
        self.close()
        self._here = descriptor


def _open_folder(name: str, above: int) -> int:
    """Return a descriptor of the folder *name* of *above*; give its owner all rights first.

    Raises:
        OSError: The folder is missing, not a folder, or belongs to another user.
    """
    with _opened(name, os.O_PATH | FOLDER, above) as found:
        if os.fstat(found).st_mode & stat.S_IRWXU != stat.S_IRWXU:
            with suppress(PermissionError):  # another user's folder, which may be usable all the same
                os.chmod(f"/proc/self/fd/{found}", stat.S_IRWXU)  # noqa: PTH101  # only the descriptor names the folder safely
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
    """Remove the file, link or socket *name*; return None, or why it is left."""
    try:
        os.unlink(name, dir_fd=above)  # relative to an open folder
    except FileNotFoundError:
        return None
    except OSError as error:
        return _reason(name, error)
    return None


def _identity(descriptor: int) -> Identity:
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino


def _reason(name: str, error: OSError) -> str:
    return f"{name!r}: {error.strerror or error}"
