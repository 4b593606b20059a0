"""Every place where the daemon can be asked: TCP, the Unix socket, and the metrics' own port."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack, ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from mlopsd.config.schema import Settings
from mlopsd.threads import in_thread
from mlopsd.web.app import make_app, make_metrics_app
from mlopsd.web.context import WebContext
from mlopsd.web.server.listener import Listener
from mlopsd.web.server.site import MOST_LOCAL, Site

API, LOCAL, METRICS = "api", "socket", "metrics"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A listener and what serves on it."""

    listener: Listener
    serving: Site


class HttpServer:
    """Opens, changes and closes the doors; a change never refuses a connection in between."""

    def __init__(self, parts: WebContext) -> None:
        self._parts = parts
        self._doors: dict[str, Endpoint] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._settings: Settings | None = None
        self._changing = asyncio.Lock()

    @property
    def places(self) -> dict[str, str]:
        """Return the place of each door, for the log."""
        return {kind: door.listener.name for kind, door in self._doors.items()}

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
        """
        async with self._changing:
            return await self._change(settings)

    async def _change(self, settings: Settings) -> list[str]:
        before = self._now()
        fresh = await _fresh_listeners(before, settings)
        self._settings = settings
        rebuilt = _fixed_in_an_app(before) != _fixed_in_an_app(settings)
        for kind in (API, LOCAL, METRICS):
            if kind in fresh:
                await self._replace(kind, fresh[kind])
            elif rebuilt and kind in self._doors:
                await self._serve_anew(kind)
        return [
            f"{kind} is now at {door.name}" if door else f"{kind} is closed" for kind, door in fresh.items()
        ]

    async def is_socket_in_place(self) -> bool:
        """Tell if the path of the Unix socket still leads here, and connections are accepted there."""
        door = self._doors[LOCAL]
        return door.serving.is_accepting and await in_thread("look at the socket", door.listener.is_in_place)

    async def bind_socket_again(self) -> None:
        """Bind the path of the Unix socket again; connections live on.

        If this fails, the door stays as it was, and the next call tries again.

        Raises:
            ListenError: the path cannot be bound.
            OSError: the new socket cannot be served.
        """
        async with self._changing:
            lost = self._doors[LOCAL]
            listener = await in_thread("listen", lost.listener.bind_again)
            try:
                await lost.serving.move(listener)
            except BaseException:  # cancelled or failed, nobody else closes the new listener
                listener.close()
                raise
            self._doors[LOCAL] = Endpoint(listener, lost.serving)
            lost.listener.close()

    def part(self) -> None:
        """Serve on, and let every answer be its connection's last."""
        for door in self._doors.values():
            door.serving.part()

    async def close(self, drain_timeout: float) -> None:
        """Accept nothing more, wait *drain_timeout* seconds for what is in flight, and close."""
        doors = [self._doors.pop(kind) for kind in list(self._doors)]
        for door in doors:
            door.listener.close()  # what serves on it has its own descriptor, and no successor
        stopping = (door.serving.stop(drain_timeout, for_good=True) for door in doors)
        await asyncio.gather(*stopping, *self._closing)

    async def _open(self, kind: str, listener: Listener) -> None:
        serving = Site(self._app(kind), listener, most_connections=self._most(kind))
        await serving.start()
        self._doors[kind] = Endpoint(listener, serving)

    async def _replace(self, kind: str, listener: Listener | None) -> None:
        old = self._doors.get(kind)
        if listener is None:
            self._doors.pop(kind, None)
        else:
            await self._open(kind, listener)
        if old is not None:
            self._end_later(old, close_listener=True)

    async def _serve_anew(self, kind: str) -> None:
        """A new application on the old listener: connections wait in the kernel, none is refused."""
        old = self._doors[kind]
        await self._open(kind, old.listener)
        self._end_later(old, close_listener=False)

    def _end_later(self, door: Endpoint, *, close_listener: bool) -> None:
        """The request that asked for the change is itself in flight, so nobody may wait for the end."""
        task = asyncio.get_running_loop().create_task(
            self._end(door, close_listener=close_listener), name=f"close {door.listener.name}"
        )
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _end(self, door: Endpoint, *, close_listener: bool) -> None:
        await door.serving.stop(self._now().api.drain_timeout)
        if close_listener:
            door.listener.close()

    def _app(self, kind: str) -> web.Application:
        if kind == METRICS:
            return make_metrics_app(self._parts, self._now())
        return make_app(self._parts, self._now(), local=kind == LOCAL)

    def _most(self, kind: str) -> Callable[[], int]:
        if kind == LOCAL:
            return lambda: MOST_LOCAL
        return lambda: self._now().api.max_connections

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


def _fixed_in_an_app(settings: Settings) -> tuple[object, ...]:
    return settings.api.cors_origins, settings.api.api_key_header
