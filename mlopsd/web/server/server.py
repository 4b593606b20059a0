"""The HTTP server: TCP, the Unix socket and the metrics port, each with its application."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, closing
from pathlib import Path

from aiohttp import web

from mlopsd.config.schema import Settings
from mlopsd.threads import in_thread
from mlopsd.web.app import make_app, make_metrics_app
from mlopsd.web.context import WebContext
from mlopsd.web.server.listener import Listener
from mlopsd.web.server.site import MOST_LOCAL, Site
from mlopsd.web.server.tls import RenewableContext, ServerContext, TlsFiles

API, LOCAL, METRICS = "api", "socket", "metrics"


class HttpServer:
    """The sites of the daemon. A change of an address refuses no connection meanwhile."""

    def __init__(self, context: WebContext) -> None:
        self._context = context
        self._sites: dict[str, Site] = {}
        self._retiring: dict[asyncio.Task[None], Site] = {}
        self._settings: Settings | None = None
        self._changing = asyncio.Lock()
        self._tls: RenewableContext | None = None

    @property
    def places(self) -> dict[str, str]:
        """Return the address or path of each site, for the log."""
        return {kind: site.listener.name for kind, site in self._sites.items()}

    async def open(self, settings: Settings, socket: Path) -> None:
        """Open every site of *settings*, and the Unix socket at the path *socket*.

        Raises:
            ListenError: The daemon cannot listen on an address or the path. No site is open then.
        """
        self._settings = settings
        self._tls = await _make_tls(settings)
        async with AsyncExitStack() as undo:
            undo.push_async_callback(self.close, 0)
            await self._open(LOCAL, await in_thread("listen", lambda: Listener.unix(socket)))
            await self._open(API, await _listen_tcp(*_api_address(settings)))
            if address := _metrics_address(settings):
                await self._open(METRICS, await _listen_tcp(*address))
            undo.pop_all()
        self._context.places = self.places

    async def change(self, settings: Settings) -> list[str]:
        """Apply *settings*, and return a sentence for each change.

        Raises:
            ListenError: a new address cannot be listened on; then nothing is changed.
            OSError: a new address cannot be served; then nothing is changed.
        """
        async with self._changing:
            return await self._change(settings)

    async def _change(self, settings: Settings) -> list[str]:
        tls = await _make_tls(settings)
        fresh = await _fresh_listeners(self._now(), settings)
        before, self._tls = self._tls, _renewed(self._tls, tls)
        try:
            sites = await self._start_all(fresh)
            await self._secure(before, [kind for kind in (API, METRICS) if kind not in fresh])
        except BaseException:  # cancelled or failed, the old sites serve as before
            self._tls = before
            raise
        if self._tls is not None and tls is not None:
            self._tls.current = tls.current
        self._settings = settings
        for kind in fresh:
            self._replace(kind, sites.get(kind))
        for kind, site in self._sites.items():
            site.most_connections = self._most(kind)
        self._context.places = self.places
        return [f"{kind} is now at {new.name}" if new else f"{kind} is closed" for kind, new in fresh.items()]

    @property
    def tls_contents(self) -> Sequence[bytes] | None:
        """Return the contents of the files of the certificate in use, or None without TLS."""
        return None if self._tls is None else self._tls.current.contents

    def renew(self, context: ServerContext) -> None:
        """Use *context* for every new connection over TLS."""
        if self._tls is not None:
            self._tls.current = context

    async def _secure(self, before: RenewableContext | None, kinds: Sequence[str]) -> None:
        """Begin the new connections of each present site of *kinds* as it is configured now.

        Raises:
            OSError: One cannot be changed. Nothing has changed then.
        """
        if self._tls is before:
            return
        async with AsyncExitStack() as undo:
            for site in [self._sites[kind] for kind in kinds if kind in self._sites]:
                await site.secure(self._tls)
                undo.push_async_callback(site.secure, before)
            undo.pop_all()

    async def is_socket_in_place(self) -> bool:
        """Return whether the path of the Unix socket leads to this daemon, and it accepts connections."""
        site = self._sites[LOCAL]
        return site.is_accepting and await in_thread("check the socket", site.listener.is_in_place)

    async def bind_socket_again(self) -> None:
        """Bind the path of the Unix socket again, and keep the open connections.

        If this fails, nothing changes, and the next call tries again.

        Raises:
            ListenError: The path cannot be bound.
            OSError: The new socket cannot be served.
        """
        async with self._changing:
            site = self._sites[LOCAL]
            await site.move(await in_thread("listen", site.listener.bind_again))

    def start_draining(self) -> None:
        """Keep serving, but close each connection after its next response."""
        for site in self._sites.values():
            site.start_draining()

    async def close(self, drain_timeout: float) -> None:
        """Stop accepting, wait *drain_timeout* seconds for requests in flight, and close."""
        retiring = dict(self._retiring)
        for task in retiring:
            task.cancel()
        await asyncio.gather(*retiring, return_exceptions=True)
        sites = [*self._sites.values(), *retiring.values()]
        self._sites.clear()
        await asyncio.gather(*(site.stop(drain_timeout) for site in sites))

    async def _open(self, kind: str, listener: Listener) -> None:
        self._sites[kind] = await self._start(kind, listener)

    async def _start(self, kind: str, listener: Listener) -> Site:
        tls = None if kind == LOCAL else self._tls
        site = Site(self._app(kind), listener, most_connections=self._most(kind), tls=tls)
        await site.start()
        return site

    async def _start_all(self, fresh: Mapping[str, Listener | None]) -> dict[str, Site]:
        """Return a site for each listener, or none and no listener open.

        Raises:
            OSError: one cannot be served.
        """
        sites: dict[str, Site] = {}
        listeners = {kind: listener for kind, listener in fresh.items() if listener is not None}
        try:
            for kind, listener in listeners.items():
                sites[kind] = await self._start(kind, listener)
        except BaseException:  # cancelled or failed, the old sites serve as before
            await asyncio.gather(*(site.stop(0) for site in sites.values()))
            for listener in listeners.values():
                listener.close()
            raise
        return sites

    def _replace(self, kind: str, site: Site | None) -> None:
        """Serve on *site*; the old one ends later, with the request for the change in flight there."""
        old = self._sites.pop(kind, None)
        if site is not None:
            self._sites[kind] = site
        if old is not None:
            task = asyncio.get_running_loop().create_task(
                old.retire(self._now().api.drain_timeout), name=f"close {old.listener.name}"
            )
            self._retiring[task] = old
            task.add_done_callback(self._retiring.pop)

    def _app(self, kind: str) -> web.Application:
        if kind == METRICS:
            return make_metrics_app(self._context)
        return make_app(self._context, local=kind == LOCAL)

    def _most(self, kind: str) -> int:
        return MOST_LOCAL if kind == LOCAL else self._now().api.max_connections

    def _now(self) -> Settings:
        assert self._settings is not None  # set before the first site opens
        return self._settings


async def _make_tls(settings: Settings) -> RenewableContext | None:
    """Return the context of *settings*, or None without TLS.

    Raises:
        ListenError: The files cannot be used.
    """
    files = TlsFiles.of(settings.api)
    return (
        RenewableContext.around(await in_thread("load certificates", files.make_context)) if files else None
    )


def _renewed(before: RenewableContext | None, after: RenewableContext | None) -> RenewableContext | None:
    """Return the context for the listeners, which is *before* as long as there is TLS."""
    return before if before is not None and after is not None else after


async def _fresh_listeners(before: Settings, after: Settings) -> dict[str, Listener | None]:
    """Return a listener for each site whose address changes, or None for one to be closed.

    Raises:
        ListenError: The daemon cannot listen on one address. No listener is open then.
    """
    fresh: dict[str, Listener | None] = {}
    with ExitStack() as undo:
        if (api := _api_address(after)) != _api_address(before):
            fresh[API] = undo.enter_context(closing(await _listen_tcp(*api)))
        if (metrics := _metrics_address(after)) != _metrics_address(before):
            fresh[METRICS] = undo.enter_context(closing(await _listen_tcp(*metrics))) if metrics else None
        undo.pop_all()
    return fresh


async def _listen_tcp(host: str, port: int) -> Listener:
    """Return a listener. Runs in a thread, because looking up a host name can block."""
    return await in_thread("listen", lambda: Listener.tcp(host, port))


def _api_address(settings: Settings) -> tuple[str, int]:
    return settings.api.host, settings.api.port


def _metrics_address(settings: Settings) -> tuple[str, int] | None:
    table = settings.metrics
    return (table.host, table.port) if table.enabled and table.port is not None else None
