"""Stand-ins for what the HTTP side is given: watches that are told what to do, and metrics that remember."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import aiohttp

from mlopsd.board import Board
from mlopsd.config.api_keys import ApiKey, Role, digest_of
from mlopsd.config.load import LoadedConfig
from mlopsd.config.plugins import Plugin
from mlopsd.config.probes import ProbeConfig
from mlopsd.config.schema import Settings
from mlopsd.entry import Entry, Terms
from mlopsd.history import History
from mlopsd.metrics.registry import Metrics
from mlopsd.predictor import Prediction, Predictor, PredictorOptions
from mlopsd.probe import Context, Options, Probe, Reading, Route
from mlopsd.watch import Busy, Watch
from mlopsd.web.app import make_app
from mlopsd.web.context import Info, WebContext
from mlopsd.web.server.connection import Timeouts
from mlopsd.web.server.listener import Listener
from mlopsd.web.server.site import Site
from tests.fakes import Instruments

STARTED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
OPEN_PATHS = ("/health/", "/health/detailed", "/health/door", "/livez", "/readyz", "/metrics", "/info", "/")
TERMS = Terms(interval=15, timeout=5, fail_after=2, recover_after=2)


class Door(Probe[Options]):
    """A probe that is never checked here."""


class Oracle(Predictor[PredictorOptions]):
    """Predicts what it was asked; while there is a *hold* it waits for that, and *failure* is raised."""

    Options = PredictorOptions

    def __init__(self, options: PredictorOptions, context: Context) -> None:
        super().__init__(options, context)
        self.serving: str | None = "3"
        self.hold: asyncio.Event | None = None
        self.failure: Exception | None = None
        self.asked: list[tuple[bytes, str]] = []
        self.answered = 0

    @property
    def served_version(self) -> str | None:
        return self.serving

    async def predict(self, body: bytes, content_type: str) -> Prediction:
        self.asked.append((body, content_type))
        if self.hold is not None:
            await self.hold.wait()
        if self.failure is not None:
            raise self.failure
        self.answered += 1
        return Prediction(b'{"predictions": [%s]}' % body)


@dataclass(frozen=True)
class OneReload:
    done: asyncio.Future[str]
    started_at: datetime = STARTED


class FakeWatch:
    """Writes *reading* on the board when checked, and lets the test end its reloads."""

    def __init__(
        self, board: Board, name: str, reading: Reading | None = None, *, reloads: bool = True
    ) -> None:
        plugin = Plugin("door", "tests:Door", "doors 1.0")
        self.configured = ProbeConfig(name, plugin, Door, Options(), TERMS, "thread", {})
        self.can_reload = reloads
        self.reload: OneReload | None = None
        self.asked: list[tuple[bool, bool]] = []
        self.checks = 0
        self.predictor: Predictor | None = None
        self.routes: Sequence[Route] | None = ()
        self._board = board
        self._reading = reading or Reading(status=None, summary="")  # type: ignore[arg-type]
        self.hold: asyncio.Event | None = None
        self.ends_with: str | Exception | None = None
        board.enrol(name, "door", TERMS)

    async def check(self) -> Entry:
        self.checks += 1
        if self.hold is not None:
            await self.hold.wait()
        return self._board.record(self.configured.name, self._reading, 0.25)

    def start_reload(self, *, dry_run: bool, force: bool) -> OneReload:
        if self.reload is not None and not self.reload.done.done():
            raise Busy("a reload of 'door' is running")
        self.asked.append((dry_run, force))
        self.reload = OneReload(asyncio.get_running_loop().create_future())
        if self.ends_with is not None:
            self.end(self.ends_with)
        return self.reload

    def end(self, outcome: str | Exception) -> None:
        """End the reload that runs."""
        assert self.reload is not None
        if isinstance(outcome, str):
            self.reload.done.set_result(outcome)
        else:
            self.reload.done.set_exception(outcome)


@dataclass(frozen=True)
class FakePage:
    body: bytes = b"mlopsd_up 1\n"
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": "text/plain; version=0.0.4"})


@dataclass
class FakeMetrics:
    """Remembers what it was told."""

    requests: list[tuple[str, str, int]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    rendered: list[tuple[str, str]] = field(default_factory=list)
    failure: Exception | None = None

    def render(self, accept: str, accept_encoding: str) -> FakePage:
        if self.failure is not None:
            raise self.failure
        self.rendered.append((accept, accept_encoding))
        return FakePage()

    def http_request(self, method: str, route: str, status: int, seconds: float) -> None:
        assert seconds >= 0
        self.requests.append((method, route, status))

    def error(self, component: str) -> None:
        self.errors.append(component)


async def until(condition: Callable[[], object]) -> None:
    """Let the loop turn until *condition* holds; pytest's timeout ends it if it never does."""
    while not condition():  # what is waited for is in code that knows no event of ours
        await asyncio.sleep(0.001)


class House:
    """A daemon's parts, for a test to change."""

    def __init__(self, **tables: Any) -> None:
        self.board = Board()
        self.metrics = FakeMetrics()
        self.watches: dict[str, FakeWatch] = {}
        self.configured: dict[str, ProbeConfig] = {}
        self.reloading: Callable[[], Awaitable[Sequence[str]]] = self._nothing_changed
        self.parts = WebContext(
            self.board,
            cast("Metrics", self.metrics),
            LoadedConfig(Settings(**tables), Path("/etc/mlopsd/config.toml"), ()),
            Info("1.2.3", STARTED, "production", mlflow="3.2.1"),
            self._reload,
            History(Path("/nowhere")),
            self.configured.values(),
            cast("Mapping[str, Watch]", self.watches),
        )

    @property
    def draining(self) -> bool:
        return self.parts.draining

    @draining.setter
    def draining(self, draining: bool) -> None:
        self.parts.draining = draining

    @property
    def info(self) -> Info:
        return self.parts.info

    @info.setter
    def info(self, info: Info) -> None:
        self.parts.info = info

    @property
    def settings(self) -> Settings:
        return self.parts.loaded.settings

    @settings.setter
    def settings(self, settings: Settings) -> None:
        self.parts.loaded = replace(self.parts.loaded, settings=settings)

    def let_in(self, *keys: str, **roles: Role) -> None:
        """Take *keys* as those of callers who may act, and the keys named in *roles* as that role's."""
        acting = [ApiKey(f"caller{at}", "act", digest_of(key)) for at, key in enumerate(keys)]
        others = [ApiKey(key.replace("_", "."), role, digest_of(key)) for key, role in roles.items()]
        self.parts.loaded = replace(self.parts.loaded, api_keys=(*acting, *others))

    def watch(self, name: str, reading: Reading | None = None, *, reloads: bool = True) -> FakeWatch:
        """Enrol a probe; with *reading* it has been checked."""
        watch = self.watches[name] = FakeWatch(self.board, name, reading, reloads=reloads)
        self.configured[name] = watch.configured
        if reading is not None:
            self.board.record(name, reading, 0.25)
        return watch

    def oracle(self, name: str, model: str = "wine", *, default: bool = False) -> Oracle:
        """Enrol a probe that predicts."""
        watch = self.watch(name)
        context = Context(name, Path(), logging.getLogger("mlopsd.test"), {}, Instruments())
        oracle = watch.predictor = Oracle(PredictorOptions(model=model, default=default), context)
        watch.configured = replace(watch.configured, probe=Oracle, options=oracle.options, isolation="loop")
        self.configured[name] = watch.configured
        return oracle

    async def _reload(self) -> Sequence[str]:
        return await self.reloading()

    async def _nothing_changed(self) -> Sequence[str]:
        return []

    @asynccontextmanager
    async def on_tcp(
        self, timeouts: Timeouts | None = None, host: str = "127.0.0.1"
    ) -> AsyncIterator[aiohttp.ClientSession]:
        """A client of the API over TCP, for which a path is enough."""
        async with self.serving(Listener.tcp(host, 0), timeouts) as listener:
            place = f"[{host}]" if ":" in host else host
            async with aiohttp.ClientSession(f"http://{place}:{listener.port}") as client:
                yield client

    @asynccontextmanager
    async def on_socket(self, path: Path) -> AsyncIterator[aiohttp.ClientSession]:
        """A client of the API behind the Unix socket *path*."""
        connector = aiohttp.UnixConnector(str(path))
        async with (
            self.serving(Listener.unix(path), local=True),
            aiohttp.ClientSession("http://mlopsd", connector=connector) as client,
        ):
            yield client

    @asynccontextmanager
    async def serving(
        self,
        listener: Listener,
        timeouts: Timeouts | None = None,
        *,
        local: bool = False,
        most: int | None = None,
    ) -> AsyncIterator[Listener]:
        """The API on *listener*, which is closed at the end."""
        app = make_app(self.parts, local=local)
        serving = Site(app, listener, most_connections=most or 64, timeouts=timeouts)
        try:
            async with serving:
                yield listener
        finally:
            self.board.close()
            listener.close()
