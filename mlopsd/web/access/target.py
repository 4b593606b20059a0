"""The target of a request: which host it names, and whether its head can be read in one way only."""

import ipaddress
import socket
from collections.abc import Collection
from functools import lru_cache
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from mlopsd.web.api.problem import Problem

LOCALHOST = "localhost"
OWN_NAME = socket.gethostname().lower()  # a system call, no look-up


def check_head(request: web.Request, key_header: str) -> None:
    """Check that *request* names one target, one origin and one key.

    Raises:
        Problem: 400, two readers of it could disagree.
    """
    for name in (hdrs.ORIGIN, hdrs.AUTHORIZATION, key_header):
        if len(request.headers.getall(name, ())) > 1:
            raise Problem(400, f"the header {name} is there twice; send it once")
    if request.raw_path[:1] != "/":
        _check_authority(request.raw_path, request.headers.get(hdrs.HOST, ""))


def _check_authority(target: str, host: str) -> None:
    """Check that an absolute *target* names the same authority as the header ``Host``.

    Raises:
        Problem: 400, it names another one.
    """
    try:
        authority = urlsplit(target).netloc
    except ValueError:
        authority = "?"
    if authority.lower() != host.lower():
        raise Problem(400, "the target of the request names another host than the header Host; send one host")


def check_host(request: web.Request, hosts: Collection[str]) -> None:
    """Check that a caller without a key asks by a name of this host.

    A page of another site can give its own name this host's address (DNS rebinding). The browser then
    counts the answers as the page's own, and sends the page's name. With no *hosts*, only connections to
    loopback are checked, since they alone bypass a firewall.

    Raises:
        Problem: 403, the name is foreign.
    """
    if "*" in hosts or (not hosts and not _is_at_loopback(request)):
        return
    given = request.headers.get(hdrs.HOST)
    if given is not None and not is_own(given, hosts):
        fix = "ask by the address or by localhost, add the name to [api] hosts, or send an API key"
        raise Problem(403, f"{given[:60]!r} is no known name of this host; {fix}")


def is_own(host: str, hosts: Collection[str]) -> bool:
    """Return whether *host*, the value of a header ``Host``, is an address or a name of this host."""
    name = _without_port(host).lower().removesuffix(".")
    known = name in (LOCALHOST, OWN_NAME) or name in hosts or name.endswith(f".{LOCALHOST}")
    return known or _is_address(name.strip("[]"))


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]


def _is_at_loopback(request: web.Request) -> bool:
    """Return whether the connection came to a loopback address."""
    address = request.get_extra_info("sockname")
    return address is None or _is_loopback(address[0])


@lru_cache(maxsize=64)
def _is_loopback(address: str) -> bool:
    found = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(found, "ipv4_mapped", None)
    return (mapped or found).is_loopback


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
