"""An application on a listener, from its first connection to its last."""

import asyncio
import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from types import TracebackType

from aiohttp import web

from mlopsd.web.middleware import RECORDER
from mlopsd.web.server.connection import Connection, ConnectionLimit, Timeouts
from mlopsd.web.server.listener import BACKLOG, Listener

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
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._app = app
        self._tls = tls
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
        try:
            await self._listen_again()
        except BaseException:  # after a failure the old listener stays in use
            self.listener = before
            listener.close()
            raise
        before.close()

    async def secure(self, tls: ssl.SSLContext | None) -> None:
        """Begin new connections with *tls*, or without TLS. Old ones close after their next response.

        Raises:
            OSError: No descriptor is left. Nothing has changed then.
        """
        before, self._tls = self._tls, tls
        try:
            await self._listen_again()
        except BaseException:  # after a failure all stays as it was
            self._tls = before
            raise
        self._limit.part()

    async def _listen_again(self) -> None:
        """Accept by new servers, and accept what waits in the kernel for the old ones.

        Raises:
            OSError: No descriptor is left. The old servers accept as before.
        """
        servers, listening = self._servers, self._listening
        await self._listen()
        await self._take_waiting(await _stop_accepting(servers, listening))

    def start_draining(self) -> None:
        """Close each connection after its next response, so that clients connect elsewhere.

        Otherwise a client with a kept connection notices the stop only when the connection closes, and may
        have sent another request by then.
        """
        self._limit.draining = True

    async def retire(self, drain_timeout: float) -> None:
        """Close the listener at once, and each connection after its next response or its idle time.

        A client may have sent a request on a connection that is idle here, so none is cut.
        """
        self.start_draining()
        self.listener.close()
        listening, self._listening = self._listening, ()
        await self._take_waiting(await _stop_accepting(self._servers, listening))
        with suppress(TimeoutError):
            async with asyncio.timeout(self._timeouts.idle):
                await self._limit.empty.wait()
        await self.stop(drain_timeout)

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
            connecting = asyncio.get_running_loop().connect_accepted_socket(
                self._connect, caller, ssl=self._tls, ssl_handshake_timeout=self._handshake_timeout
            )
            with suppress(ssl.SSLError, ConnectionError, TimeoutError):  # it was no TLS
                await connecting

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
                each.admits = None if self._tls is None else self._may_greet
                server = await loop.create_server(
                    self._connect,
                    sock=each,
                    backlog=1,
                    ssl=self._tls,
                    ssl_handshake_timeout=self._handshake_timeout,
                )
                servers.append(server)
            undo.pop_all()
        self._servers, self._listening = servers, listening

    @property
    def _server(self) -> web.Server:
        server = self._runner.server
        assert server is not None  # start() has set the runner up
        return server

    def _connect(self) -> Connection:
        connection = Connection(self._server, self._app[RECORDER], self._limit, self._timeouts)
        if self._tls is not None:
            now = asyncio.get_running_loop().time()
            self._limit.greet(connection, now + self._timeouts.head)
        return connection

    @property
    def _handshake_timeout(self) -> float | None:
        return None if self._tls is None else self._timeouts.head

    def _may_greet(self) -> bool:
        return self._limit.may_greet(asyncio.get_running_loop().time())


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
