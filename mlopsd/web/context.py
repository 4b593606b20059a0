"""What the HTTP side is given: the live parts of the daemon, each as little as it needs to know of them."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from mlopsd.board import Board
from mlopsd.config.load import LoadedConfig
from mlopsd.config.probes import ProbeConfig
from mlopsd.entry import Entry
from mlopsd.predictor import Predictor


class ReloadLike(Protocol):
    """One reload of a probe; ``done`` holds its sentence, or what went wrong, once it has ended."""

    @property
    def started_at(self) -> datetime:
        """When it began."""

    @property
    def done(self) -> asyncio.Future[str]:
        """The sentence that says what was done; or `Refused`, `ProbeError` or what else was raised."""


class WatchLike(Protocol):
    """What is asked of a probe's watch; a check must outlive the caller who is cancelled meanwhile."""

    configured: ProbeConfig

    @property
    def can_reload(self) -> bool:
        """Whether the probe takes its subject up anew when told to."""

    @property
    def reload(self) -> ReloadLike | None:
        """The reload that is running, or ran last."""

    @property
    def predictor(self) -> Predictor | None:
        """The probe itself, if it predicts and has been made."""

    async def check(self) -> Entry:
        """Check now, or join the check in flight; the board's entry after it."""

    def start_reload(self, *, dry_run: bool, force: bool) -> ReloadLike:
        """Begin to reload the probe.

        Raises:
            mlopsd.watch.Busy: a reload is running.
        """


class PageLike(Protocol):
    """A rendered page of metrics."""

    @property
    def body(self) -> bytes:
        """The bytes, compressed if the headers say so."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The type of the body and its encoding."""


class MetricsLike(Protocol):
    """Renders the metrics and takes what there is to count about requests."""

    def render(self, accept: str, accept_encoding: str) -> PageLike:
        """The page in the best form that the two request headers allow."""

    def http_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request was answered."""

    def error(self, component: str) -> None:
        """Something broke that should not."""


@dataclass(frozen=True, slots=True)
class Info:
    """The daemon about itself.

    Attributes:
        mode: ``development`` is ``debug = true``.
        reloaded_at: when the configuration was last read anew, well or not; None if never.
        reload_error: why the last reload of the configuration changed nothing; None if it went well.
        mlflow: the version of the MLflow that is installed beside mlopsd; None if there is none.
        socket: the path of the Unix socket.
        socket_error: why that path does not lead to the daemon, and cannot be made to; None if it does.
    """

    version: str
    started: datetime
    mode: Literal["production", "development"]
    reloaded_at: datetime | None = None
    reload_error: str | None = None
    mlflow: str | None = None
    socket: str = ""
    socket_error: str | None = None


@dataclass(frozen=True, slots=True)
class WebContext:
    """The daemon as its HTTP side sees it; the callables are asked at each request, so all of it is live.

    Attributes:
        configured: every probe that is to be watched, also one that is just being made or replaced.
        watches: the watch of each probe, by the probe's name.
        loaded: the settings in force, with the API keys.
        reload_configuration: reads the configuration anew and says in sentences what changed; raises
            `mlopsd.config.errors.ConfigurationError`. It must not wait for this request to end.
        draining: whether the daemon is stopping.
    """

    board: Board
    metrics: MetricsLike
    configured: Callable[[], Sequence[ProbeConfig]]
    watches: Callable[[], Mapping[str, WatchLike]]
    loaded: Callable[[], LoadedConfig]
    reload_configuration: Callable[[], Awaitable[Sequence[str]]]
    draining: Callable[[], bool]
    info: Callable[[], Info]
