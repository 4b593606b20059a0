"""The HTTP server: TCP, the Unix socket and the metrics port, each with its application."""

import asyncio
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, closing
from pathlib import Path
from types import TracebackType

from aiohttp import web

from mlopsd.config.schema import Settings
from mlopsd.threads import in_thread
from mlopsd.web.app import RECORDER, make_app, make_metrics_app
from mlopsd.web.context import WebContext
from mlopsd.web.server.connection import Connection, ConnectionLimit, Timeouts
from mlopsd.web.server.listener import BACKLOG, Listener

API, LOCAL, METRICS = "api", "socket", "metrics"
MOST_LOCAL = 64  # connections on the Unix socket: an operator can connect when TCP is full
TURNS_TO_CONNECT = 3  # iterations of the loop from accept() to connection_made()
CANCEL_SECONDS = 0.1  # for cancelled handlers at the end


class Site:
    """An application on a listener, from its first connection to its last.

    At most *most_connections* may be open; a change of the attribute applies to the next connection.
    """

    def __init__(
        self,
        app: web.Application,
        listener: Listener,
        *,
        most_connections: int = MOST_LOCAL,
        timeouts: Timeouts | None = None,
    ) -> None:
        self._app = app
        self.listener = listener
        self._timeouts = timeouts or Timeouts()
        self._runner = web.AppRunner(app, shutdown_timeout=CANCEL_SECONDS)
        self._limit = ConnectionLimit(most_connections)
        self._servers: list[asyncio.Server] = []
        self._listening: Sequence[socket.socket] = ()

    async def __aenter__(self) -> "Site":
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop(0)

    @property
    def most_connections(self) -> int:
        """Return the limit of open connections."""
        return self._limit.most

    @most_connections.setter
    def most_connections(self, most: int) -> None:
        self._limit.most = most

    @property
    def connections(self) -> int:
        """Return the number of open connections."""
        return len(self._limit.members)

    @property
    def is_accepting(self) -> bool:
        """Return whether it accepts connections on every socket of its listener."""
        return bool(self._servers) and all(server.is_serving() for server in self._servers)

    @property
    def busy(self) -> int:
        """Return the number of connections with a request in progress."""
        return sum(not member.idle for member in self._limit.members)

    async def start(self) -> None:
        """Start to accept connections.

        Raises:
            OSError: No descriptor is left. The listener is closed then.
        """
        await self._runner.setup()
        self._server.request_handler = self._app[RECORDER].around(self._server.request_handler)
        try:
            await self._listen()
        except BaseException:  # nobody else closes the listener after a failure
            self.listener.close()
            raise

    async def move(self, listener: Listener) -> None:
        """Serve on *listener* instead. Keep open connections, and accept those waiting in the kernel.

        Raises:
            OSError: *listener* cannot be served. It is closed then, and the old one keeps serving.
        """
        before, self.listener = self.listener, listener
        servers, listening = self._servers, self._listening
        try:
            await self._listen()
        except BaseException:  # after a failure the old listener stays in use
            self.listener = before
            listener.close()
            raise
        await self._take_waiting(await _stop_accepting(servers, listening))
        before.close()

    def start_draining(self) -> None:
        """Close each connection after its next response, so that clients connect elsewhere.

        Otherwise a client with a kept connection notices the stop only when the connection closes, and may
        have sent another request by then.
        """
        self._limit.draining = True

    async def stop(self, drain_timeout: float) -> None:
        """Close the listener, wait *drain_timeout* seconds for requests in flight, and abort the rest.

        Connections that wait in the kernel still get a response.
        """
        self.listener.close()  # the servers have descriptors of their own
        listening, self._listening = self._listening, ()
        await self._take_waiting(await _stop_accepting(self._servers, listening))
        self._limit.close_idle()
        try:
            async with asyncio.timeout(drain_timeout):
                await self._limit.empty.wait()
        except TimeoutError:
            pass
        await self._runner.cleanup()

    async def _take_waiting(self, waiting: Sequence[socket.socket]) -> None:
        for caller in waiting:
            await asyncio.get_running_loop().connect_accepted_socket(self._connect, caller)

    async def _listen(self) -> None:
        """Accept on every socket of the listener, or change nothing.

        Raises:
            OSError: No descriptor is left.
        """
        loop = asyncio.get_running_loop()
        servers: list[asyncio.Server] = []
        with ExitStack() as undo:
            listening = [undo.enter_context(closing(bound.dup())) for bound in self.listener.sockets]
            for each in listening:
                undo.callback(loop.remove_reader, each.fileno())
                servers.append(await loop.create_server(self._connect, sock=each, backlog=1))
            undo.pop_all()
        self._servers, self._listening = servers, listening

    @property
    def _server(self) -> web.Server:
        server = self._runner.server
        assert server is not None  # start() has set the runner up
        return server

    def _connect(self) -> Connection:
        return Connection(self._server, self._app[RECORDER], self._limit, self._timeouts)


class HttpServer:
    """The sites of the daemon. A change of an address refuses no connection meanwhile."""

    def __init__(self, context: WebContext) -> None:
        self._context = context
        self._sites: dict[str, Site] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._settings: Settings | None = None
        self._changing = asyncio.Lock()

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
        async with AsyncExitStack() as undo:
            undo.push_async_callback(self.close, 0)
            await self._open(LOCAL, await in_thread("listen", lambda: Listener.unix(socket)))
            await self._open(API, await _listen_tcp(*_api_address(settings)))
            if address := _metrics_address(settings):
                await self._open(METRICS, await _listen_tcp(*address))
            undo.pop_all()

    async def change(self, settings: Settings) -> list[str]:
        """Apply *settings*, and return a sentence for each change.

        Raises:
            ListenError: a new address cannot be listened on; then nothing is changed.
            OSError: a new address cannot be served; then nothing is changed.
        """
        async with self._changing:
            return await self._change(settings)

    async def _change(self, settings: Settings) -> list[str]:
        fresh = await _fresh_listeners(self._now(), settings)
        sites = await self._start_all(fresh)
        self._settings = settings
        for kind in fresh:
            self._replace(kind, sites.get(kind))
        for kind, site in self._sites.items():
            site.most_connections = self._most(kind)
        return [f"{kind} is now at {new.name}" if new else f"{kind} is closed" for kind, new in fresh.items()]

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
        stopping = [self._sites.pop(kind).stop(drain_timeout) for kind in list(self._sites)]
        await asyncio.gather(*stopping, *self._closing)

    async def _open(self, kind: str, listener: Listener) -> None:
        self._sites[kind] = await self._start(kind, listener)

    async def _start(self, kind: str, listener: Listener) -> Site:
        site = Site(self._app(kind), listener, most_connections=self._most(kind))
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
                old.stop(self._now().api.drain_timeout), name=f"close {old.listener.name}"
            )
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    def _app(self, kind: str) -> web.Application:
        if kind == METRICS:
            return make_metrics_app(self._context)
        return make_app(self._context, local=kind == LOCAL)

    def _most(self, kind: str) -> int:
        return MOST_LOCAL if kind == LOCAL else self._now().api.max_connections

    def _now(self) -> Settings:
        assert self._settings is not None  # set before the first site opens
        return self._settings


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


async def _stop_accepting(
    servers: Sequence[asyncio.Server], listening: Sequence[socket.socket]
) -> list[socket.socket]:
    """Close *servers*, and return the connections waiting in the kernel, which it would reset otherwise.

    asyncio drops an accepted socket without a connection object, so this first lets the loop run. Do not
    await anything between accepting the waiting connections and closing.
    """
    loop = asyncio.get_running_loop()
    for each in listening:
        if each.fileno() >= 0:  # its server is not closed yet
            loop.remove_reader(each.fileno())
    for _ in range(TURNS_TO_CONNECT):
        await asyncio.sleep(0)
    waiting = [caller for each in listening for caller in _waiting(each)]
    for server in servers:
        server.close()
    return waiting


def _waiting(listening: socket.socket) -> Iterator[socket.socket]:
    """Yield the connections that wait in the kernel for *listening*."""
    for _ in range(BACKLOG):
        try:
            caller, _address = listening.accept()
        except OSError:  # no connection waits, it was closed, or no descriptor is left
            return
        caller.setblocking(False)  # noqa: FBT003  # its one argument
        yield caller
