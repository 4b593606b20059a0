"""The callers that may act or predict: by kernel credentials on the Unix socket, by an API key over TCP.

The address of a caller is no identity, since a proxy on this host forwards requests of anybody.
"""

from __future__ import annotations

import errno
import hmac
import os
import select
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import hdrs, web

from mlopsd.web.api.problem import Problem

if TYPE_CHECKING:
    from pydantic import SecretStr

    from mlopsd.config.load import LoadedConfig

SO_PEERGROUPS = 59  # include/uapi/asm-generic/socket.h; Python has no name for it
SO_PEERPIDFD = 77  # since Linux 6.5
MOST_GROUPS_BYTES = 1024  # the limit of Python's getsockopt: 256 groups


@dataclass(frozen=True, slots=True)
class Credentials:
    """The user, groups and process of a Unix socket's client at the time of the connect."""

    uid: int
    gids: frozenset[int]
    pid: int = 0


def credentials(connection: socket.socket) -> Credentials:
    """Return the client's credentials from the kernel. Do not look up names, which can block."""
    size = struct.calcsize("3i")
    pid, uid, gid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return Credentials(uid, frozenset({gid, *_supplementary(connection)}), pid)


def _supplementary(connection: socket.socket) -> Sequence[int]:
    try:
        packed = connection.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, MOST_GROUPS_BYTES)
    except OSError:  # more groups than Python accepts, or a kernel before 4.13: only the primary group counts
        return ()
    return struct.unpack(f"{len(packed) // 4}I", packed)


def check_local(request: web.Request) -> None:
    """Accept root, the daemon's own user and members of its group.

    Raises:
        Problem: 403, the caller is another user, or in another network namespace.
    """
    connection = request.get_extra_info("socket")
    if connection is None:
        raise Problem(403, "cannot identify the caller: the connection is gone; try again")
    caller = credentials(connection)
    uid, gid = os.geteuid(), os.getegid()
    if not is_trusted(caller, uid, gid):
        fix = f"be root, the daemon's user (uid {uid}) or a member of its group (gid {gid})"
        raise Problem(403, f"uid {caller.uid} may not act here; {fix}")
    if caller.uid == uid and not is_of_our_network(connection, caller.pid):
        fix = "call from the daemon's network namespace, as another user, or over TCP with a key"
        raise Problem(403, f"callers in another network namespace may not act; {fix}")


def is_trusted(caller: Credentials, uid: int, gid: int) -> bool:
    """Return whether *caller* may act on a daemon that runs as *uid* and *gid*."""
    return caller.uid in (0, uid) or gid in caller.gids


def is_of_our_network(connection: socket.socket, pid: int) -> bool:
    """Return whether the process *pid* at the other end is in the daemon's network namespace.

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
        theirs = os.stat(f"/proc/{pid}/ns/net")  # noqa: PTH116  # faster than Path.stat
    except PermissionError:
        return "NoNewPrivs:\t0" in Path(f"/proc/{pid}/status").read_text("ascii", "replace")
    return theirs.st_ino == os.stat("/proc/self/ns/net").st_ino  # noqa: PTH116  # the same


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


def check_actor(request: web.Request, loaded: LoadedConfig) -> None:
    """Accept callers with a valid API key.

    Raises:
        Problem: 401 without a valid key; 403 if no key is configured.
    """
    fix = "set [api] api_keys_file, or use the Unix socket (the command line does)"
    _check_key(request, loaded, f"cannot change anything over TCP: no API key is set; {fix}")


def may_act(request: web.Request, loaded: LoadedConfig, *, local: bool) -> bool:
    """Return whether the caller may act."""
    try:
        check_local(request) if local else check_actor(request, loaded)
    except Problem:
        return False
    return True


def caller_name(request: web.Request, *, local: bool) -> str:
    """Return who has sent *request*, for the log and the history. Do not look up names, which can block."""
    if not local:
        return f"a key from {request.remote}"
    connection = request.get_extra_info("socket")
    uid = None if connection is None else credentials(connection).uid
    return "root" if uid == 0 else f"uid {'unknown' if uid is None else uid}"


def check_predictor(request: web.Request, loaded: LoadedConfig, *, local: bool) -> None:
    """Accept everybody if ``[api] predictions`` is ``open``, otherwise only callers who may act.

    Raises:
        Problem: 401 without a valid key; 403 if no key is configured, or for another local user.
    """
    if loaded.settings.api.predictions == "open":
        return
    if local:
        check_local(request)
        return
    fix = 'set [api] api_keys_file, or predictions = "open", or use the Unix socket'
    _check_key(request, loaded, f"cannot predict over TCP: no API key is set; {fix}")


def _check_key(request: web.Request, loaded: LoadedConfig, no_keys: str) -> None:
    """Accept callers with a valid API key. *no_keys* is the detail if no key is configured.

    Raises:
        Problem: 401 without a valid key; 403 if no key is configured.
    """
    if not loaded.api_keys:
        raise Problem(403, no_keys)
    header = loaded.settings.api.api_key_header
    given = key_of(request, header)
    if given is None:
        how = f"in the header {header}, or as Authorization: Bearer"
        raise Problem(401, f"an API key is needed; send it {how}")
    if not is_known(given, loaded.api_keys):
        raise Problem(401, "the API key is wrong; send a configured key")


def key_of(request: web.Request, header: str) -> str | None:
    """Return the key in *header* or in the bearer token, or None."""
    if (given := request.headers.get(header)) is not None:
        return given
    scheme, _, token = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def is_known(given: str, keys: Sequence[SecretStr]) -> bool:
    """Return whether *given* is one of *keys*, in constant time."""
    candidate = given.encode("utf-8", "surrogateescape")
    matches = [hmac.compare_digest(candidate, key.get_secret_value().encode()) for key in keys]
    return any(matches)
