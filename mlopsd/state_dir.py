"""The state folder: where it is, which layout it has, and that no second daemon uses it."""

import errno
import fcntl
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO

from mlopsd.config.schema import Settings

LAYOUT = "1"  # raised whenever an older daemon could misread what is in the folder
LAYOUT_FILE = "layout"
LOCK_FILE = "lock"
SET_ASIDE = "set-aside"
SOCKET_FILE = "mlopsd.sock"
OF_FILE_SYSTEMS = (
    *("lost+found", ".snapshot", ".snapshots", "aquota.user", "aquota.group", "quota.user", "quota.group"),
    *(".Trash", ".Trash-*"),
)  # patterns of names at the top of one, and nobody's files
STAYS = frozenset({errno.EBUSY, errno.EXDEV})  # something is mounted there
IN_THE_WAY = frozenset({errno.EEXIST, errno.ENOTDIR})  # what is there is no folder
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
log = logging.getLogger("mlopsd.state")


class StateError(Exception):
    """The state folder cannot be used: "cannot use X: cause; cure"."""


@dataclass(frozen=True, slots=True)
class Places:
    """The paths where this daemon keeps things.

    Attributes:
        state: the folder that outlives restarts.
        socket: the Unix socket for those who may act.
    """

    state: Path
    socket: Path


def places(settings: Settings, environment: Mapping[str, str] | None = None) -> Places:
    """The configured places; else what systemd made for us; else the user's own state folder."""
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
    """This user's state home (XDG Base Directory Specification)."""
    return Path(variables.get("XDG_STATE_HOME") or f"{variables.get('HOME', '/')}/.local/state")


class StateFolder:
    """The folder, held by a lock for as long as this object is open."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: IO[str] | None = None

    def open(self) -> None:
        """Make the folder, lock it, and set aside what a layout of another time left in it.

        Raises:
            StateError: it cannot be written, or another daemon holds it.
        """
        try:
            self.path.mkdir(mode=0o750, parents=True, exist_ok=True)
            self._refuse_what_is_not_ours()
            self._lock = (self.path / LOCK_FILE).open("a+", encoding="ascii", errors="replace")
            self._take_lock(self._lock)
            self._adopt()
        except StateError:
            self.close()
            raise
        except OSError as error:
            self.close()
            complaint = f"cannot use the state folder {self.path}: {_cause_and_cure(error)}"
            raise StateError(f"{complaint}, or set state_dir") from error

    def place_of(self, name: str) -> Path:
        """Return the path of the folder of the probe *name*, made or not."""
        return self.path / "probes" / name

    def of_probe(self, name: str) -> Path:
        """The folder of the probe *name*, made if need be.

        Raises:
            StateError: it cannot be made.
        """
        folder = self.place_of(name)
        try:
            folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        except OSError as error:
            raise StateError(f"cannot make {folder}: {_cause_and_cure(error)}") from error
        return folder

    def close(self) -> None:
        """Let go of the lock."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _take_lock(self, lock: IO[str]) -> None:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            holder = lock.read(20).strip() or "unknown"
            cure = "stop it, or give this one a state_dir of its own"
            raise StateError(
                f"cannot start: another mlopsd (pid {holder}) uses {self.path}; {cure}"
            ) from error
        lock.seek(0)
        lock.truncate()
        lock.write(f"{os.getpid()}\n")
        lock.flush()

    def _refuse_what_is_not_ours(self) -> None:
        """A folder with files in it and no layout was never ours, and stays as it is."""
        if not (self.path / LAYOUT_FILE).exists() and self._contents():
            cure = "choose an empty one as state_dir"
            raise StateError(f"cannot use the state folder {self.path}: it holds files of others; {cure}")

    def _adopt(self) -> None:
        """Check the layout's version; what another version left is moved away, never misread or deleted."""
        file = self.path / LAYOUT_FILE
        found = file.read_text("ascii", errors="replace").strip() if file.exists() else None
        if found is not None and found != LAYOUT:
            self._set_aside(found)
        if found != LAYOUT:
            file.write_text(f"{LAYOUT}\n", "ascii")

    def _contents(self) -> list[Path]:
        """List the folder, but for what any layout has, and what a file system puts there."""
        common = (LOCK_FILE, SOCKET_FILE, SET_ASIDE, *OF_FILE_SYSTEMS)
        paths = self.path.iterdir()
        return [path for path in paths if not any(fnmatchcase(path.name, name) for name in common)]

    def _set_aside(self, found: str) -> None:
        """Move everything away, the layout last: until then the next start does the rest.

        What is mounted in the folder cannot move, so it stays, and the log names it.
        """
        contents = sorted(self._contents(), key=lambda path: path.name == LAYOUT_FILE)
        aside = self.path / SET_ASIDE / datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        aside.mkdir(mode=0o750, parents=True)
        left = [str(path) for path in contents if not _moved(path, aside / path.name)]
        log.warning(
            "state of another layout set aside",
            extra={"found": found, "expected": LAYOUT, "kept_in": str(aside), "left_in_place": left},
        )


def _moved(path: Path, target: Path) -> bool:
    """Rename *path* to *target*; False if it is a mount point and has to stay."""
    try:
        path.rename(target)
    except OSError as error:
        if error.errno not in STAYS:
            raise
        return False
    return True


def _cause_and_cure(error: OSError) -> str:
    if error.errno in IN_THE_WAY:
        return f"{error.strerror}; move away the file that is in its place"
    if error.errno in FULL:
        return f"{error.strerror}; make room"
    return f"{error.strerror or error}; make it writable for this user"
