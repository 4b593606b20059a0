"""The redirects that a registry's process follows: on one host, and to hosts that the configuration lists.

A registry or its store could otherwise send the process to services that only this host reaches. So the
address of each connection after a redirect is checked too: a name may lead anywhere.
"""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv6Address, ip_address
from socket import socket
from typing import Any, Literal
from urllib.parse import urlsplit

import requests
from urllib3.connection import HTTPConnection

from mlopsd_probes.registry.fault import Fault

Place = Literal["loopback", "link-local"]

ORIGIN = "_redirected_from"  # attribute of a request: the host that was asked first
METADATA = frozenset(map(ip_address, ("fd00:ec2::254", "100.100.100.200")))  # clouds' own, not link-local
TO_ANY_HOST = frozenset({"accept", "accept-encoding", "connection", "if-range", "range", "user-agent"})


class RedirectGuard:
    """The hosts that a redirect may lead to, besides the host that was asked."""

    def __init__(self, hosts: Iterable[str]) -> None:
        self._hosts = frozenset(host.lower() for host in hosts)
        self._places: dict[str, Place | None] = {}
        self._registry: str | None = None
        self._now = threading.local()

    def install(self) -> None:
        """Hold this for each request of `requests` in this process, which MLflow and most stores use."""
        rebuild, send, connect = (
            requests.Session.rebuild_auth,
            requests.Session.send,
            HTTPConnection._new_conn,  # noqa: SLF001  # urllib3 has no public place that sees the address
        )

        def rebuild_auth(
            session: requests.Session, request: requests.PreparedRequest, response: requests.Response
        ) -> None:
            rebuild(session, request, response)
            self._redirect(request, response.request)

        def send_guarded(
            session: requests.Session, request: requests.PreparedRequest, **options: Any
        ) -> requests.Response:
            origin = getattr(request, ORIGIN, None)
            if origin is not None and _host(request) != origin:
                options["cert"] = None  # the client's certificate is for the registry
            with self._following(origin or self._named_by(_host(request))):
                return send(session, request, **options)

        def new_connection(connection: HTTPConnection) -> socket:
            return self._checked(connection.host, connect(connection), via=getattr(connection, "proxy", None))

        requests.Session.rebuild_auth = rebuild_auth  # type: ignore[assignment,method-assign]
        requests.Session.send = send_guarded  # type: ignore[assignment,method-assign]
        HTTPConnection._new_conn = new_connection  # type: ignore[assignment,method-assign]  # noqa: SLF001  # as above

    def watch(self, registry: str) -> None:
        """Check the address of every other host as after a redirect: the host *registry* has named it."""
        self._registry = registry.lower().rstrip(".")

    def _named_by(self, host: str) -> str | None:
        return None if host == self._registry else self._registry

    def _redirect(self, request: requests.PreparedRequest, before: requests.PreparedRequest) -> None:
        """Check the redirect from *before* to *request*; leave no credentials in it for another host.

        Raises:
            Fault: the host is not allowed.
        """
        origin, host = getattr(before, ORIGIN, None) or _host(before), _host(request)
        if host != origin and host not in self._hosts:
            fix = "add it to redirect_hosts if that is right, or check which server answers there"
            raise Fault("bad_response", f"{origin} redirects to another host, {host}; {fix}")
        if _is_secure(before) and not _is_secure(request):
            fix = "let it redirect to https, since anybody on the way could change what comes"
            raise Fault("bad_response", f"{_host(before)} redirects from https to http; {fix}")
        if host != _host(before):
            for name in [name for name in request.headers if name.lower() not in TO_ANY_HOST]:
                del request.headers[name]
        setattr(request, ORIGIN, origin)

    @contextmanager
    def _following(self, origin: str | None) -> Iterator[None]:
        before, self._now.origin = getattr(self._now, "origin", None), origin
        try:
            yield
        finally:
            self._now.origin = before

    def _checked(self, host: str, connected: socket, via: object) -> socket:
        """Return *connected*, a new connection to *host*; *via* is a proxy, which decides itself.

        Raises:
            Fault: a redirect has led to an address that only this host reaches.
        """
        if via is not None:
            return connected
        place, origin = place_of(connected.getpeername()[0]), getattr(self._now, "origin", None)
        if origin is None:
            self._places[host.lower()] = place
        elif place not in (None, self._places.get(origin)):
            connected.close()
            fix = "check which server answers there"
            raise Fault("bad_response", f"{origin} leads to {host}, a {place} address of this host; {fix}")
        return connected


def place_of(address: str) -> Place | None:
    """Return the place of *address* if only this host reaches it; else None."""
    found: IPv4Address | IPv6Address = ip_address(address.partition("%")[0])
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    if found.is_loopback or found.is_unspecified:
        return "loopback"
    return "link-local" if found.is_link_local or found in METADATA else None


def _host(request: requests.PreparedRequest) -> str:
    return (urlsplit(request.url or "").hostname or "").rstrip(".")


def _is_secure(request: requests.PreparedRequest) -> bool:
    return (request.url or "").startswith("https:")
