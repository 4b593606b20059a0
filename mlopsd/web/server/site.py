"""An application that serves on a listener, from its first connection to its last."""

import asyncio
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from types import TracebackType

from aiohttp import web

from mlopsd.web.app import BOUNDARY
from mlopsd.web.server.connection import Connection, ConnectionLimit, Timeouts
from mlopsd.web.server.listener import BACKLOG, Listener

MOST_LOCAL = 64  # connections on the Unix socket: an operator gets in when TCP is full
TURNS_TO_CONNECT = 3  # of the loop, from accept() to connection_made()
CANCEL_SECONDS = 0.1  # for handlers that are cut off at the end


class Site:
    """Serves *app* on *listener*, which stays open when this stops, for another to take over.

    *most_connections* is asked at each new connection; the Unix socket has a cap of its own.
    """

    def __init__(
        self,
        app: web.Application,
        listener: Listener,
        *,
        most_connections: Callable[[], int] = lambda: MOST_LOCAL,
        patience: Timeouts | None = None,
    ) -> None:
        self._app = app
        self.listener = listener
        self._most = most_connections
        self._patience = patience or Timeouts()
        self._runner = web.AppRunner(app, shutdown_timeout=CANCEL_SECONDS)
        self._crowd = ConnectionLimit(most_connections())
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
        """Begin to accept connections."""
        await self._runner.setup()
        self._server.request_handler = self._app[BOUNDARY].around(self._server.request_handler)
        await self._listen()

    async def move(self, listener: Listener) -> None:
        """Serve on *listener* instead; connections live on, and whoever waits in the kernel is answered.

        Raises:
            OSError: *listener* cannot be served. Then this serves on the old listener as before.
        """
        before, self.listener = self.listener, listener
        servers, listening = self._servers, self._listening
        try:
            await self._listen()
        except BaseException:  # cancelled or failed, the old listener is the one in use
            self.listener = before
            raise
        for caller in await _stop_accepting(servers, listening, for_good=True):
            await asyncio.get_running_loop().connect_accepted_socket(self._connect, caller)

    def part(self) -> None:
        """From now on let every answer be its connection's last: who asks again connects anew, elsewhere.

        A caller who keeps a connection would else learn from its end alone that this server stops, and
        may have sent another request by then.
        """
        self._crowd.parting = True

    async def stop(self, drain_timeout: float, *, for_good: bool = False) -> None:
        """Accept nothing more, wait *drain_timeout* seconds for what is in flight, and cut off the rest.

        Who waits in the kernel is left to the next one that serves on the listener, or, where this is
        *for_good* and there is none, still answered.
        """
        listening, self._listening = self._listening, ()
        waiting = await _stop_accepting(self._servers, listening, for_good=for_good)
        for caller in waiting:
            await asyncio.get_running_loop().connect_accepted_socket(self._connect, caller)
        self._crowd.dismiss_idle()
        try:
            async with asyncio.timeout(drain_timeout):
                await self._crowd.empty.wait()
        except TimeoutError:
            pass
        await self._runner.cleanup()

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
        self._crowd.most = self._most()
        return Connection(self._server, self._app[BOUNDARY], self._crowd, self._patience)


async def _stop_accepting(
    servers: Sequence[asyncio.Server], listening: Sequence[socket.socket], *, for_good: bool
) -> list[socket.socket]:
    """Close *servers*, after what was accepted just now has become a connection.

    asyncio drops what is between the two when a server is closed, so it gets its turns first. What is
    returned would be reset by the kernel; nothing may wait between accepting it and closing.
    """
    loop = asyncio.get_running_loop()
    for each in listening:
        if each.fileno() >= 0:  # its server is not closed yet
            loop.remove_reader(each.fileno())
    for _ in range(TURNS_TO_CONNECT):
        await asyncio.sleep(0)
    waiting = [caller for each in listening for caller in _waiting(each)] if for_good else []
    for server in servers:
        server.close()
    return waiting


def _waiting(listening: socket.socket) -> Iterator[socket.socket]:
    """The connections that wait in the kernel behind *listening*."""
    for _ in range(BACKLOG):
        try:
            caller, _address = listening.accept()
        except OSError:  # none, or it hung up, or no descriptor is left for it
            return
        caller.setblocking(False)  # noqa: FBT003  # its one argument
        yield caller
