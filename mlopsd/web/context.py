"""The live state of the daemon that its HTTP side reads."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from mlopsd.trends import Traffic, Trends

if TYPE_CHECKING:  # the HTTP side only uses them
    from mlopsd.board import Board
    from mlopsd.config.api_keys import Role
    from mlopsd.config.load import LoadedConfig
    from mlopsd.config.probes import ProbeConfig
    from mlopsd.history import History
    from mlopsd.metrics.registry import Metrics
    from mlopsd.watch import Watch

REQUEST_ID = "X-Request-ID"
CALLER: ContextVar[Caller | None] = ContextVar("caller", default=None)  # of the request, if it is known


@dataclass(frozen=True, slots=True)
class Caller:
    """A known caller: its name for the log and the history, and its role."""

    name: str
    role: Role


@dataclass(frozen=True, slots=True)
class Info:
    """Facts about the daemon itself.

    Attributes:
        version: The version of mlopsd.
        started: The time of the start, in UTC.
        mode: ``development`` if ``debug = true``, else ``production``.
        reloaded_at: The time of the last reload of the configuration, successful or not; None if never.
        reload_error: Why the last reload of the configuration failed; None if it succeeded.
        outdated: A line for each probe of which other code is installed than runs, as of the last reload.
        mlflow: The version of the installed MLflow; None without MLflow.
        socket: The path of the Unix socket.
        socket_error: Why that path does not lead to the daemon and cannot be bound; None if it does.
        tls_error: Why the present files of TLS are not in use; None if they are.
    """

    version: str
    started: datetime
    mode: Literal["production", "development"]
    reloaded_at: datetime | None = None
    reload_error: str | None = None
    outdated: tuple[str, ...] = ()
    mlflow: str | None = None
    socket: str = ""
    socket_error: str | None = None
    tls_error: str | None = None


@dataclass(slots=True, eq=False)
class WebContext:
    """The daemon as its HTTP side sees it. The daemon replaces the values, and each request reads them.

    Attributes:
        board: The board.
        metrics: The metrics.
        loaded: The current settings, with the API keys.
        info: Facts about the daemon itself.
        reload_configuration: Reloads the configuration and returns a sentence for each change. Raises
            `mlopsd.config.errors.ConfigurationError`. It must not wait for the end of this request.
        history: The history of the host.
        configured: Every configured probe, even one that is being made or replaced.
        watches: The watch of each probe, by the probe's name.
        trends: The last half hour of the numbers in readings.
        traffic: The predictions that this daemon answered.
        places: The address or path of each site: ``api``, ``socket`` and, if it is separate, ``metrics``.
        draining: True while the daemon is stopping.
    """

    board: Board
    metrics: Metrics
    loaded: LoadedConfig
    info: Info
    reload_configuration: Callable[[], Awaitable[Sequence[str]]]
    history: History
    configured: Collection[ProbeConfig] = ()
    watches: Mapping[str, Watch] = field(default_factory=dict)
    trends: Trends = field(default_factory=Trends)
    traffic: Traffic = field(default_factory=Traffic)
    places: Mapping[str, str] = field(default_factory=dict)
    draining: bool = False
