"""The callers that may act or predict: by the kernel's word on the Unix socket, by an API key over TCP.

The address of a caller is no identity. A proxy on this host passes on what anybody asks, and need not say so.
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
MOST_GROUPS_BYTES = 1024  # what Python's getsockopt can take: 256 groups


@dataclass(frozen=True, slots=True)
class Credentials:
    """The process at the other end of a Unix socket when it connected, as numbers."""

    uid: int
    gids: frozenset[int]
    pid: int = 0


def credentials(connection: socket.socket) -> Credentials:
    """Return the kernel's word on the other end of *connection*; a name is not looked up: that can block."""
    size = struct.calcsize("3i")
    pid, uid, gid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return Credentials(uid, frozenset({gid, *_supplementary(connection)}), pid)


def _supplementary(connection: socket.socket) -> Sequence[int]:
    try:
        packed = connection.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, MOST_GROUPS_BYTES)
    except OSError:  # more groups than Python can take, or a kernel before 4.13: the primary one counts
        return ()
    return struct.unpack(f"{len(packed) // 4}I", packed)


def check_local(request: web.Request) -> None:
    """Let root, the daemon's own user and members of its group pass.

    Raises:
        Problem: 403, it is somebody else.
    """
    connection = request.get_extra_info("socket")
    if connection is None:
        raise Problem(403, "cannot tell who asks: the connection is gone; ask again")
    caller = credentials(connection)
    uid, gid = os.geteuid(), os.getegid()
    if not is_trusted(caller, uid, gid):
        cure = f"be root, the daemon's user (uid {uid}) or a member of its group (gid {gid})"
        raise Problem(403, f"uid {caller.uid} may not act here; {cure}")
    if caller.uid == uid and not is_of_our_network(connection, caller.pid):
        cure = "ask from the network namespace of the daemon, as another user or over TCP with a key"
        raise Problem(403, f"a process that the daemon's network was taken from may not act; {cure}")


def is_trusted(caller: Credentials, uid: int, gid: int) -> bool:
    """Tell if a daemon that runs as *uid* and *gid* takes orders from *caller*."""
    return caller.uid in (0, uid) or gid in caller.gids


def is_of_our_network(connection: socket.socket, pid: int) -> bool:
    """Tell if the process *pid* at the other end has the network that we have.

    A model runs as our own user, and its network is cut: that tells it, and all that it starts, from the
    command line. It cannot join ours again. One that has ended meanwhile might not be the one that *pid* is.
    Where the kernel does not let us see (root's shell, if we are a root without capabilities), only one that
    may still gain privileges is taken for a command line: no model may, nor get that back.
    """
    try:
        return _is_network_ours(pid) and not _has_ended(connection)
    except OSError:  # it is gone, or hides: a command line does neither
        return False


def _is_network_ours(pid: int) -> bool:
    try:
        theirs = os.stat(f"/proc/{pid}/ns/net")  # noqa: PTH116  # what Path.stat says, in less
    except PermissionError:
        return "NoNewPrivs:\t0" in Path(f"/proc/{pid}/status").read_text("ascii", "replace")
    return theirs.st_ino == os.stat("/proc/self/ns/net").st_ino  # noqa: PTH116


def _has_ended(connection: socket.socket) -> bool:
    """Tell if the process at the other end is gone, where the kernel tells."""
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
    """Let callers with a key pass.

    Raises:
        Problem: 401 without the right key; 403 where there is no key that could be right.
    """
    cure = "set [api] api_keys_file, or use the Unix socket (the command line does)"
    _check_key(
        request, loaded, f"nothing can be changed over TCP without an API key, and none is set; {cure}"
    )


def check_predictor(request: web.Request, loaded: LoadedConfig, *, local: bool) -> None:
    """Let everybody pass if ``[api] predictions`` is ``open``, else only callers who may act.

    Raises:
        Problem: 401 without the right key; 403 where there is no key that could be right.
    """
    if loaded.settings.api.predictions == "open":
        return
    if local:
        check_local(request)
        return
    cure = 'set [api] api_keys_file, or predictions = "open", or use the Unix socket'
    _check_key(request, loaded, f"no predictions over TCP without an API key, and none is set; {cure}")


def _check_key(request: web.Request, loaded: LoadedConfig, no_keys: str) -> None:
    """Let callers with a key pass; *no_keys* is said where none is configured.

    Raises:
        Problem: 401 without the right key; 403 where there is no key that could be right.
    """
    if not loaded.api_keys:
        raise Problem(403, no_keys)
    header = loaded.settings.api.api_key_header
    given = key_of(request, header)
    if given is None:
        how = f"in the header {header}, or as Authorization: Bearer"
        raise Problem(401, f"an API key is needed; send it {how}")
    if not is_known(given, loaded.api_keys):
        raise Problem(401, "the API key is wrong; send one of those that are configured")


def key_of(request: web.Request, header: str) -> str | None:
    """Return the key that came in *header* or as a bearer token, or None."""
    if (given := request.headers.get(header)) is not None:
        return given
    scheme, _, token = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def is_known(given: str, keys: Sequence[SecretStr]) -> bool:
    """Tell if *given* is one of *keys*, in a time that does not tell which or how nearly."""
    candidate = given.encode("utf-8", "surrogateescape")
    matches = [hmac.compare_digest(candidate, key.get_secret_value().encode()) for key in keys]
    return any(matches)
