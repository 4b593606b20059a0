"""The live state of the daemon that its HTTP side reads."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:  # the HTTP side reads and calls them, and makes none
    from mlopsd.board import Board
    from mlopsd.config.load import LoadedConfig
    from mlopsd.config.probes import ProbeConfig
    from mlopsd.metrics.registry import Metrics
    from mlopsd.watch import Watch

REQUEST_ID = "X-Request-ID"


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


@dataclass(slots=True, eq=False)
class WebContext:
    """The daemon as its HTTP side sees it; the daemon replaces the values, and each request reads them.

    Attributes:
        loaded: the current settings, with the API keys.
        reload_configuration: reads the configuration anew and says in sentences what changed; raises
            `mlopsd.config.errors.ConfigurationError`. It must not wait for this request to end.
        configured: every probe that is to be watched, also one that is just being made or replaced.
        watches: the watch of each probe, by the probe's name.
        draining: true while the daemon is stopping.
    """

    board: Board
    metrics: Metrics
    loaded: LoadedConfig
    info: Info
    reload_configuration: Callable[[], Awaitable[Sequence[str]]]
    configured: Collection[ProbeConfig] = ()
    watches: Mapping[str, Watch] = field(default_factory=dict)
    draining: bool = False
