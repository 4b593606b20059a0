"""Takes paths out of reach of this process and all that it starts, by Landlock (Linux 5.13).

Landlock only allows: so everything is allowed that is not hidden and does not lead to what is hidden. A
folder on the way to a hidden path keeps what is in it now: nobody lists it, adds to it, or removes or renames
what is directly in it. Landlock does not keep anybody from connecting to a Unix socket by its path.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # the same on every architecture
VERSION = 1  # flag of `CREATE_RULESET`: ask for the ABI's version
PATH_BENEATH = 1
PR_SET_NO_NEW_PRIVS = 38

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
REFER, TRUNCATE = 1 << 13, 1 << 14
SINCE_THE_FIRST = (1 << 13) - 1
OF_A_FILE = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE
READING = EXECUTE | READ_FILE | READ_DIR
WITH_REFER, WITH_TRUNCATE, WITH_SCOPES = 2, 3, 6  # the ABI that has them first
SCOPE_SIGNAL = 1 << 1  # no signal to a process outside, as the daemon
KERNELS_OWN = ("/proc/", "/sys/", "/dev/")  # devices and processes, and no files of anybody
SHARED_MEMORY = "/dev/shm/"
OF_EVERY_PROGRAM = (
    *("/bin", "/sbin", "/lib", "/lib64", "/usr/lib", "/usr/local", "/etc", "/opt", "/home", "/run"),
    *("/tmp", "/var/tmp", SHARED_MEMORY),
)


def hide(
    hidden: Iterable[str], credentials: Iterable[str], readable: Iterable[str], writable: Iterable[str]
) -> str:
    """Hide *hidden*, but not *readable* and *writable* inside: ``out of reach``, or why it is not.

    Hides *credentials* too. One that is, or holds, what this process needs stays: a variable may name
    anything. Holds for the calling thread and those that it starts.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    abi = libc.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), VERSION)
    if abi < 1:
        return f"within reach: this kernel's Landlock is not there ({os.strerror(ctypes.get_errno())})"
    try:
        needed = _needed((*readable, *writable))
        secret = {place for place in _places(credentials) if place not in needed and not _is_kernels(place)}
        _Ruleset(libc, abi).enforce(_places(hidden) | secret, readable, writable)
    except OSError as error:
        return f"within reach: Landlock will not have it ({error.strerror})"
    return "out of reach"


def _places(paths: Iterable[str]) -> set[Path]:
    """Each of *paths* where it is, and, if it is a link, where it leads."""
    found = set()
    for path in paths:
        parent, name = os.path.split(path)
        found |= {
            Path(os.path.realpath(parent), name),
            Path(os.path.realpath(path)),
        }  # and no error for loops
    return found


def _needed(given: Iterable[str]) -> set[Path]:
    """Return the paths that Python, the libraries and the model need, *given* too, and the folders above."""
    search = ":".join(os.environ.get(name, "") for name in ("PATH", "LD_LIBRARY_PATH")).split(":")
    own = (sys.executable, sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix, *sys.path)
    needed = {
        Path(os.path.realpath(path))
        for path in (*OF_EVERY_PROGRAM, *own, *search, *_mapped(), *given)
        if path
    }
    return needed | {folder for path in needed for folder in path.parents}


def _mapped() -> Iterator[str]:
    """The files that this process has in its memory: libraries, and the interpreter."""
    for line in Path("/proc/self/maps").read_text("utf-8", "replace").splitlines():
        if path := line.partition("/")[2]:
            yield f"/{path}"


def _is_kernels(place: Path) -> bool:
    return str(place).startswith(KERNELS_OWN) and not str(place).startswith(SHARED_MEMORY)


class _Ruleset:
    def __init__(self, libc: ctypes.CDLL, abi: int) -> None:
        self._libc = libc
        self._handled = (
            SINCE_THE_FIRST | (REFER if abi >= WITH_REFER else 0) | (TRUNCATE if abi >= WITH_TRUNCATE else 0)
        )
        scoped = struct.pack("QQ", 0, SCOPE_SIGNAL) if abi >= WITH_SCOPES else b""
        attributes = struct.pack("Q", self._handled) + scoped
        self._fd = self._call(CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)

    def enforce(self, hidden: set[Path], readable: Iterable[str], writable: Iterable[str]) -> None:
        try:
            self._allow_all_but(Path("/"), hidden, {parent for path in hidden for parent in path.parents})
            for path in readable:
                self._allow(Path(path).resolve(), READING)
            for path in writable:
                self._allow(Path(path).resolve(), self._handled)
            if self._libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
            self._call(RESTRICT_SELF, self._fd, 0)
        finally:
            os.close(self._fd)

    def _allow_all_but(self, path: Path, hidden: set[Path], leading: set[Path]) -> None:
        if path in hidden:
            return
        if path not in leading:
            self._allow(path, self._handled)
            return
        try:
            entries = list(path.iterdir())
        except NotADirectoryError:  # what is hidden would have to be in a file
            self._allow(path, self._handled)
            return
        except OSError:  # it is gone, or not ours to list
            return
        for entry in entries:
            self._allow_all_but(entry, hidden, leading)

    def _allow(self, path: Path, rights: int) -> None:
        try:
            fd = os.open(path, os.O_PATH | os.O_CLOEXEC | os.O_NOFOLLOW)  # a link's target has its own rule
        except OSError:  # it is gone, or not ours to see
            return
        try:
            if not stat.S_ISDIR(os.fstat(fd).st_mode):
                rights &= OF_A_FILE
            self._call(ADD_RULE, self._fd, PATH_BENEATH, struct.pack("=Qi", rights & self._handled, fd), 0)
        finally:
            os.close(fd)

    def _call(self, number: int, *arguments: object) -> int:
        result = self._libc.syscall(number, *arguments)
        if result < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return int(result)
