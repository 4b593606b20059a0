"""Hide paths from this process and its children by Landlock (Linux 5.13).

Landlock has only rules that allow. So every path is allowed except hidden paths and the folders that lead to
them. Such a folder keeps its present content: no process here can list it, add to it, or remove or rename its
direct entries. Landlock does not prevent a connection to a Unix socket by its path.
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
WITH_REFER, WITH_TRUNCATE, WITH_SCOPES = 2, 3, 6  # the first ABI that has them
SCOPE_SIGNAL = 1 << 1  # no signal to a process outside, such as the daemon
KERNELS_OWN = ("/proc/", "/sys/", "/dev/")  # devices and processes, not user files
SHARED_MEMORY = "/dev/shm/"
OF_EVERY_PROGRAM = (
    *("/bin", "/sbin", "/lib", "/lib64", "/usr/lib", "/usr/local", "/etc", "/opt", "/home", "/run"),
    *("/tmp", "/var/tmp", SHARED_MEMORY),
)


def hide(
    hidden: Iterable[str], credentials: Iterable[str], readable: Iterable[str], writable: Iterable[str]
) -> str:
    """Hide *hidden* and *credentials*, except *readable* and *writable* inside.

    Return ``out of reach``, or the reason why they are not. A credential path that is or contains a path
    which this process needs stays visible, since a variable may name any path. It applies to the calling
    thread and the threads that it starts.
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
    """Return each of *paths*, and the target of a link."""
    found = set()
    for path in paths:
        parent, name = os.path.split(path)
        found |= {
            Path(os.path.realpath(parent), name),
            Path(os.path.realpath(path)),
        }  # realpath raises no error for loops
    return found


def _needed(given: Iterable[str]) -> set[Path]:
    """Return *given* and the paths that Python, the libraries and the model need, and all parent folders."""
    search = ":".join(os.environ.get(name, "") for name in ("PATH", "LD_LIBRARY_PATH")).split(":")
    own = (sys.executable, sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix, *sys.path)
    needed = {
        Path(os.path.realpath(path))
        for path in (*OF_EVERY_PROGRAM, *own, *search, *_mapped(), *given)
        if path
    }
    return needed | {folder for path in needed for folder in path.parents}


def _mapped() -> Iterator[str]:
    """Yield the files mapped into this process: libraries and the interpreter."""
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
        except NotADirectoryError:  # a file contains no hidden path
            self._allow(path, self._handled)
            return
        except OSError:  # it is gone, or this process may not list it
            return
        for entry in entries:
            self._allow_all_but(entry, hidden, leading)

    def _allow(self, path: Path, rights: int) -> None:
        try:
            fd = os.open(path, os.O_PATH | os.O_CLOEXEC | os.O_NOFOLLOW)  # a link's target has its own rule
        except OSError:  # it is gone, or this process may not see it
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
