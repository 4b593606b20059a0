"""The state folder: its place, its layout, and its lock against a second daemon."""

import errno
import fcntl
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO

from mlopsd.config.schema import Settings
from mlopsd.safe_file import WRITING, IrregularFile, open_regular, read_regular, write_atomically

LAYOUT = "1"  # increased whenever an older daemon could misread the folder
LAYOUT_FILE = "layout"
LAYOUT_VERSION = re.compile(r"[0-9]{1,9}")
LONGEST = 60  # characters of a damaged layout in the log
LOCK_FILE = "lock"
SET_ASIDE = "set-aside"
SOCKET_FILE = "mlopsd.sock"
OF_FILE_SYSTEMS = (
    *("lost+found", ".snapshot", ".snapshots", "aquota.user", "aquota.group", "quota.user", "quota.group"),
    *(".Trash", ".Trash-*"),
)  # patterns of names at the root of a file system that belong to it
STAYS = frozenset({errno.EBUSY, errno.EXDEV})  # something is mounted there
IN_THE_WAY = frozenset({errno.EEXIST, errno.ENOTDIR})  # the existing file is not a folder
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
log = logging.getLogger("mlopsd.state")


class StateError(Exception):
    """The error of a state folder that cannot be used: "cannot use X: cause; fix"."""


@dataclass(frozen=True, slots=True)
class Places:
    """The paths of this daemon.

    Attributes:
        state: The state folder, which survives restarts.
        socket: The Unix socket, for local callers that may act.
    """

    state: Path
    socket: Path


def places(settings: Settings, environment: Mapping[str, str] | None = None) -> Places:
    """Return the paths: as configured, or else systemd's directories, or else this user's state folder."""
    variables = os.environ if environment is None else environment
    state = settings.state_dir or _default_state(variables)
    runtime = variables.get("RUNTIME_DIRECTORY", "").split(":")[0]
    return Places(state, settings.socket or (Path(runtime) if runtime else state) / SOCKET_FILE)


def _default_state(variables: Mapping[str, str]) -> Path:
    if made := variables.get("STATE_DIRECTORY", "").split(":")[0]:
        return Path(made)
    if os.geteuid() == 0:
        return Path("/var/lib/mlopsd")
    return state_home(variables) / "mlopsd"


def state_home(variables: Mapping[str, str]) -> Path:
    """Return this user's state home (XDG Base Directory Specification)."""
    return Path(variables.get("XDG_STATE_HOME") or f"{variables.get('HOME', '/')}/.local/state")


class StateFolder:
    """The state folder, locked while this object is open."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: IO[str] | None = None

    def open(self) -> None:
        """Create the folder, lock it, and move files of another layout aside.

        Raises:
            StateError: The folder cannot be written, or another daemon uses it.
        """
        try:
            self.path.mkdir(mode=0o750, parents=True, exist_ok=True)
            self._reject_foreign_files()
            self._lock = _open_lock(self.path / LOCK_FILE)
            self._take_lock(self._lock)
            self._adopt()
        except StateError:
            self.close()
            raise
        except OSError as error:
            self.close()
            complaint = f"cannot use the state folder {self.path}: {_cause_and_fix(error)}"
            raise StateError(f"{complaint}, or set state_dir") from error

    def place_of(self, name: str) -> Path:
        """Return the path of the probe *name*'s folder, which may not exist."""
        return self.path / "probes" / name

    def of_probe(self, name: str) -> Path:
        """Return the folder of the probe *name*, created if necessary.

        Raises:
            StateError: The folder cannot be created.
        """
        folder = self.place_of(name)
        try:
            folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        except OSError as error:
            raise StateError(f"cannot create {folder}: {_cause_and_fix(error)}") from error
        return folder

    def close(self) -> None:
        """Release the lock."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _take_lock(self, lock: IO[str]) -> None:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            holder = lock.read(20).strip() or "unknown"
            fix = "stop it, or set another state_dir for this one"
            raise StateError(
                f"cannot start: another mlopsd (pid {holder}) uses {self.path}; {fix}"
            ) from error
        lock.seek(0)
        lock.truncate()
        lock.write(f"{os.getpid()}\n")
        lock.flush()

    def _reject_foreign_files(self) -> None:
        """Reject a folder with files but without a layout: it does not belong to mlopsd."""
        if not os.path.lexists(self.path / LAYOUT_FILE) and self._contents():
            fix = "choose an empty folder as state_dir"
            raise StateError(
                f"cannot use the state folder {self.path}: it contains files of other programs; {fix}"
            )

    def _adopt(self) -> None:
        """Check the layout's version. Move the files of another version aside; never read or delete them.

        A damaged file names no other version: the files stay, since each of them is checked when it is read.
        """
        file = self.path / LAYOUT_FILE
        try:
            found = read_regular(file).decode("ascii", "replace").strip()
        except FileNotFoundError:
            found = ""
        except IrregularFile:
            found = "no regular file"
        if found == LAYOUT:
            return
        if LAYOUT_VERSION.fullmatch(found):
            self._set_aside(found)
        elif os.path.lexists(file):
            log.warning("state layout repaired", extra={"found": found[:LONGEST], "written": LAYOUT})
        write_atomically(file, f"{LAYOUT}\n".encode("ascii"))

    def _contents(self) -> list[Path]:
        """Return the paths in the folder, except those of every layout and of the file system itself."""
        common = (LOCK_FILE, SOCKET_FILE, SET_ASIDE, LAYOUT_FILE + WRITING, *OF_FILE_SYSTEMS)
        paths = self.path.iterdir()
        return [path for path in paths if not any(fnmatchcase(path.name, name) for name in common)]

    def _set_aside(self, found: str) -> None:
        """Move everything aside, the layout last, so that the next start can finish an interrupted move.

        A mount point in the folder cannot move, so it stays, and the log names it.
        """
        contents = sorted(self._contents(), key=lambda path: path.name == LAYOUT_FILE)
        aside = self.path / SET_ASIDE / datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        aside.mkdir(mode=0o750, parents=True)
        left = [str(path) for path in contents if not _moved(path, aside / path.name)]
        log.warning(
            "state of another layout set aside",
            extra={"found": found, "expected": LAYOUT, "kept_in": str(aside), "left_in_place": left},
        )


def _open_lock(path: Path) -> IO[str]:
    descriptor = open_regular(path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
    return os.fdopen(descriptor, "a+", encoding="ascii", errors="replace")


def _moved(path: Path, target: Path) -> bool:
    """Rename *path* to *target*; return False if it is a mount point and has to stay."""
    try:
        path.rename(target)
    except OSError as error:
        if error.errno not in STAYS:
            raise
        return False
    return True


def _cause_and_fix(error: OSError) -> str:
    if error.errno in IN_THE_WAY:
        return f"{error.strerror}; move the file at that path away"
    if isinstance(error, IrregularFile):
        return f"{error.filename}: {error.strerror}; remove it"
    if error.errno in FULL:
        return f"{error.strerror}; make room"
    return f"{error.strerror or error}; make it writable for this user"
