"""The HTTP server: TCP, the Unix socket and the metrics' own port, each with its application."""

import asyncio
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, closing
from pathlib import Path
from types import TracebackType

from aiohttp import web

from mlopsd.config.schema import Settings
from mlopsd.threads import in_thread
from mlopsd.web.app import BOUNDARY, make_app, make_metrics_app
from mlopsd.web.context import WebContext
from mlopsd.web.server.connection import Connection, ConnectionLimit, Timeouts
from mlopsd.web.server.listener import BACKLOG, Listener

API, LOCAL, METRICS = "api", "socket", "metrics"
MOST_LOCAL = 64  # connections on the Unix socket: an operator gets in when TCP is full
TURNS_TO_CONNECT = 3  # of the loop, from accept() to connection_made()
CANCEL_SECONDS = 0.1  # for handlers that are cut off at the end


class Site:
    """An application that serves on a listener, from its first connection to its last.

    *most_connections* of them may be open; the attribute changes that for the next one.
    """

    def __init__(
        self,
        app: web.Application,
        listener: Listener,
        *,
        most_connections: int = MOST_LOCAL,
        patience: Timeouts | None = None,
    ) -> None:
        self._app = app
        self.listener = listener
        self._patience = patience or Timeouts()
        self._runner = web.AppRunner(app, shutdown_timeout=CANCEL_SECONDS)
        self._crowd = ConnectionLimit(most_connections)
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
        """Return how many connections may be open."""
        return self._crowd.most

    @most_connections.setter
    def most_connections(self, most: int) -> None:
        self._crowd.most = most

    @property
    def connections(self) -> int:
        """Return the number of connections."""
        return len(self._crowd.members)

    @property
    def is_accepting(self) -> bool:
        """Tell if it accepts connections on every socket of its listener."""
        return bool(self._servers) and all(server.is_serving() for server in self._servers)

    @property
    def busy(self) -> int:
        """Return the number of connections that have a request."""
        return sum(not member.idle for member in self._crowd.members)

    async def start(self) -> None:
        """Begin to accept connections.

        Raises:
            OSError: no descriptor is left for it. Then the listener is closed.
        """
        await self._runner.setup()
        self._server.request_handler = self._app[BOUNDARY].around(self._server.request_handler)
        try:
            await self._listen()
        except BaseException:  # cancelled or failed, nobody else closes the listener
            self.listener.close()
            raise

    async def move(self, listener: Listener) -> None:
        """Serve on *listener* instead; connections live on, and whoever waits in the kernel is answered.

        Raises:
            OSError: *listener* cannot be served. Then it is closed, and the old one serves as before.
        """
        before, self.listener = self.listener, listener
        servers, listening = self._servers, self._listening
        try:
            await self._listen()
        except BaseException:  # cancelled or failed, the old listener is the one in use
            self.listener = before
            listener.close()
            raise
        await self._take_waiting(await _stop_accepting(servers, listening))
        before.close()

    def part(self) -> None:
        """From now on let every answer be its connection's last: who asks again connects anew, elsewhere.

        A caller who keeps a connection would else learn from its end alone that this server stops, and
        may have sent another request by then.
        """
        self._crowd.parting = True

    async def stop(self, drain_timeout: float) -> None:
        """Close the listener, wait *drain_timeout* seconds for what is in flight, and cut off the rest.

        A connection that waits in the kernel is still answered.
        """
        self.listener.close()  # it is served through descriptors of its own
        listening, self._listening = self._listening, ()
        await self._take_waiting(await _stop_accepting(self._servers, listening))
        self._crowd.dismiss_idle()
        try:
            async with asyncio.timeout(drain_timeout):
                await self._crowd.empty.wait()
        except TimeoutError:
            pass
        await self._runner.cleanup()

    async def _take_waiting(self, waiting: Sequence[socket.socket]) -> None:
        for caller in waiting:
            await asyncio.get_running_loop().connect_accepted_socket(self._connect, caller)

    async def _listen(self) -> None:
        """Accept on every socket of the listener, or leave all as it was.

        Raises:
            OSError: no descriptor is left for it.
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
        return Connection(self._server, self._app[BOUNDARY], self._crowd, self._patience)


class HttpServer:
    """The sites of the daemon; a change of an address never refuses a connection in between."""

    def __init__(self, parts: WebContext) -> None:
        self._parts = parts
        self._sites: dict[str, Site] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._settings: Settings | None = None
        self._changing = asyncio.Lock()

    @property
    def places(self) -> dict[str, str]:
        """Return the place of each door, for the log."""
        return {kind: site.listener.name for kind, site in self._sites.items()}

    async def open(self, settings: Settings, socket: Path) -> None:
        """Open every door that *settings* ask for.

        Raises:
            ListenError: an address or the path cannot be listened on; then none is open.
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
        """Do as *settings* say from now on; what they change, in sentences.

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
        """Tell if the path of the Unix socket still leads here, and connections are accepted there."""
        site = self._sites[LOCAL]
        return site.is_accepting and await in_thread("look at the socket", site.listener.is_in_place)

    async def bind_socket_again(self) -> None:
        """Bind the path of the Unix socket again; connections live on.

        If this fails, the door stays as it was, and the next call tries again.

        Raises:
            ListenError: the path cannot be bound.
            OSError: the new socket cannot be served.
        """
        async with self._changing:
            site = self._sites[LOCAL]
            await site.move(await in_thread("listen", site.listener.bind_again))

    def part(self) -> None:
        """Serve on, and let every answer be its connection's last."""
        for site in self._sites.values():
            site.part()

    async def close(self, drain_timeout: float) -> None:
        """Accept nothing more, wait *drain_timeout* seconds for what is in flight, and close."""
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
            return make_metrics_app(self._parts)
        return make_app(self._parts, local=kind == LOCAL)

    def _most(self, kind: str) -> int:
        return MOST_LOCAL if kind == LOCAL else self._now().api.max_connections

    def _now(self) -> Settings:
        assert self._settings is not None  # set before the first door opens
        return self._settings


async def _fresh_listeners(before: Settings, after: Settings) -> dict[str, Listener | None]:
    """A listener for each door whose address differs, None for one that is to be closed.

    Raises:
        ListenError: one cannot be had; then there is none.
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
    """Looking a host's name up can block, so it is done in a thread."""
    return await in_thread("listen", lambda: Listener.tcp(host, port))


def _api_address(settings: Settings) -> tuple[str, int]:
    return settings.api.host, settings.api.port


def _metrics_address(settings: Settings) -> tuple[str, int] | None:
    table = settings.metrics
    return (table.host, table.port) if table.enabled and table.port is not None else None


async def _stop_accepting(
    servers: Sequence[asyncio.Server], listening: Sequence[socket.socket]
) -> list[socket.socket]:
    """Close *servers*, and return the connections that wait in the kernel, which would reset them.

    asyncio drops what it has accepted and not yet made a connection, so that gets its turns first. Nothing
    may wait between accepting the others and closing.
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
    """Yield the connections that wait in the kernel behind *listening*."""
    for _ in range(BACKLOG):
        try:
            caller, _address = listening.accept()
        except OSError:  # none, or it hung up, or no descriptor is left for it
            return
        caller.setblocking(False)  # noqa: FBT003  # its one argument
        yield caller
