"""The process at the other end of a Unix socket, as the kernel knows it: its user and its namespaces."""

import errno
import os
import select
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SO_PEERGROUPS = 59  # include/uapi/asm-generic/socket.h; Python has no name for it
SO_PEERPIDFD = 77  # since Linux 6.5
MOST_GROUPS_BYTES = 1024  # the limit of Python's getsockopt: 256 groups


@dataclass(frozen=True, slots=True)
class Credentials:
    """The user, groups and process of a Unix socket's peer at the time of its connect or listen."""

    uid: int
    gids: frozenset[int]
    pid: int = 0


def credentials(connection: socket.socket) -> Credentials:
    """Return the peer's credentials from the kernel. Do not look up names, which can block."""
    size = struct.calcsize("3i")
    pid, uid, gid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return Credentials(uid, frozenset({gid, *_supplementary(connection)}), pid)


def _supplementary(connection: socket.socket) -> Sequence[int]:
    try:
        packed = connection.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, MOST_GROUPS_BYTES)
    except OSError:  # more groups than Python accepts, or a kernel before 4.13: only the primary group counts
        return ()
    return struct.unpack(f"{len(packed) // 4}I", packed)


def is_of_our_network(connection: socket.socket, pid: int) -> bool:
    """Return whether the process *pid* at the other end is in this process's network namespace.

    - A model runs as the daemon's user, but in a network namespace of its own that it cannot leave. That
      distinguishes it, and every process that it starts, from the command line.
    - A process that has ended is rejected: *pid* may belong to another process now.
    - The kernel hides the namespace of root's shell from a daemon that is root without capabilities. Then
      only a process that may still gain privileges is accepted. No model may, or can get that back.
    """
    try:
        return _is_network_ours(pid) and not _has_ended(connection)
    except OSError:  # the process is gone or hidden; a command line is neither
        return False


def _is_network_ours(pid: int) -> bool:
    try:
        return _is_shared(pid, "net")
    except PermissionError:
        return "NoNewPrivs:\t0" in Path(f"/proc/{pid}/status").read_text("ascii", "replace")


def is_of_our_namespaces(connection: socket.socket, pid: int, kinds: Sequence[str]) -> bool:
    """Return whether the process *pid* at the other end lives and shares each of the namespaces *kinds*.

    Raises:
        PermissionError: The kernel hides its namespaces from this user.
    """
    try:
        return all(_is_shared(pid, kind) for kind in kinds) and not _has_ended(connection)
    except PermissionError:
        raise
    except OSError:  # the process is gone
        return False


def _is_shared(pid: int, kind: str) -> bool:
    theirs = os.stat(f"/proc/{pid}/ns/{kind}")  # noqa: PTH116  # faster than Path.stat
    return theirs.st_ino == os.stat(f"/proc/self/ns/{kind}").st_ino  # noqa: PTH116  # the same


def _has_ended(connection: socket.socket) -> bool:
    """Return whether the process at the other end has ended; False if the kernel cannot tell."""
    try:
        descriptor = connection.getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD)
    except OSError as error:
        return error.errno != errno.ENOPROTOOPT
    try:
        ended = select.poll()
        ended.register(descriptor, select.POLLIN)
        return bool(ended.poll(0))
    finally:
        os.close(descriptor)
