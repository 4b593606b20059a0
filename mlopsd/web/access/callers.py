"""The callers that may read, predict or act: by kernel credentials on the Unix socket, by a key over TCP.

The address of a caller is no identity, since a proxy on this host forwards requests of anybody.
"""

from __future__ import annotations

import base64
import binascii
import os
import socket
from typing import TYPE_CHECKING

from aiohttp import hdrs, web

from mlopsd.config.api_keys import SHORTEST, find_key
from mlopsd.peer import Credentials, credentials, is_of_our_network
from mlopsd.web.api.problem import BASIC_CHALLENGE, Problem
from mlopsd.web.context import Caller

if TYPE_CHECKING:
    from mlopsd.config.api_keys import Role
    from mlopsd.config.load import LoadedConfig

FIXES: dict[Role, str] = {
    "read": 'set [api] api_keys_file, or reading = "open", or use the Unix socket',
    "predict": 'set [api] api_keys_file, or predictions = "open", or use the Unix socket',
    "act": "set [api] api_keys_file, or use the Unix socket (the command line does)",
}
DEEDS: dict[Role, str] = {"read": "read", "predict": "predict", "act": "change anything"}


def identify(request: web.Request, loaded: LoadedConfig, access: Role, *, local: bool) -> Caller | None:
    """Return the caller if it may use *access*; None if nobody is known and *access* is open to everybody.

    Raises:
        Problem: 401 without a valid key; 403, the caller may not, or no key is configured.
    """
    if not local and _is_open(access, loaded) and key_of(request, loaded, access) is None:
        return None
    try:
        return _local_caller(request) if local else _key_caller(request, loaded, access)
    except Problem:
        if not _is_open(access, loaded):
            raise
        return None


def _is_open(access: Role, loaded: LoadedConfig) -> bool:
    api = loaded.settings.api
    return (access == "read" and api.reading == "open") or (access == "predict" and api.predictions == "open")


def _local_caller(request: web.Request) -> Caller:
    """Accept root, the daemon's own user and members of its group.

    Raises:
        Problem: 403, the caller is another user, or in another network namespace.
    """
    connection = request.get_extra_info("socket")
    if connection is None:
        raise Problem(403, "cannot identify the caller: the connection is gone; try again")
    caller = credentials(connection)
    check_local(connection, caller)
    return Caller("root" if caller.uid == 0 else f"uid {caller.uid}", "act")


def check_local(connection: socket.socket, caller: Credentials) -> None:
    """Check that *caller* at the other end of *connection* may act.

    Raises:
        Problem: 403, it may not.
    """
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


def _key_caller(request: web.Request, loaded: LoadedConfig, access: Role) -> Caller:
    """Return the owner of the key in *request*.

    Raises:
        Problem: 401 without a valid key; 403 if its role does not suffice, or no key is configured.
    """
    if not loaded.api_keys:
        raise Problem(403, f"cannot {DEEDS[access]} over TCP: no API key is set; {FIXES[access]}")
    header = loaded.settings.api.api_key_header
    given = key_of(request, loaded, access)
    if given is None:
        how = f"in the header {header}, or as Authorization: Bearer"
        raise _unauthorized(f"an API key is needed; send it {how}", access)
    if len(given) < SHORTEST:
        fix = f"a key has at least {SHORTEST} characters; mlopsd key new makes one"
        raise _unauthorized(f"the API key is too short: {fix}", access)
    found = find_key(given, loaded.api_keys)
    if found is None:
        raise _unauthorized("the API key is wrong; send a configured key", access)
    if not found.allows(access):
        fix = f"send a key with the role {access}"
        raise Problem(
            403, f"the API key {found.name} may not {DEEDS[access]}: its role is {found.role}; {fix}"
        )
    return Caller(f"key {found.name} from {request.remote}", found.role)


def _unauthorized(detail: str, access: Role) -> Problem:
    """Return a 401. A browser that reads asks its user for a password then."""
    return Problem(401, detail, headers={hdrs.WWW_AUTHENTICATE: BASIC_CHALLENGE} if access == "read" else {})


def key_of(request: web.Request, loaded: LoadedConfig, access: Role) -> str | None:
    """Return the key in its header, in the bearer token or, to read, in the password of HTTP Basic.

    A browser sends a password that it knows by itself, also with a form of another site. So a password
    never acts or predicts.
    """
    if (given := request.headers.get(loaded.settings.api.api_key_header)) is not None:
        return given
    scheme, _, token = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    return _password(token.strip()) if scheme.lower() == "basic" and access == "read" else None


def _password(token: str) -> str | None:
    try:
        user_and_password = base64.b64decode(token, validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        return None
    return user_and_password.partition(":")[2]
