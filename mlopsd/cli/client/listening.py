"""Where the configuration of this host says that the daemon listens, as far as this user may read it."""

from dataclasses import dataclass
from pathlib import Path

from mlopsd.config.errors import ConfigurationError
from mlopsd.config.load import load
from mlopsd.config.schema import Settings
from mlopsd.state_dir import places


@dataclass(frozen=True, slots=True)
class Listening:
    """Where a daemon with this configuration can be asked.

    Attributes:
        doubts: why the configuration could not be used, a line each; then these are the defaults.
    """

    socket: Path
    host: str
    port: int
    doubts: tuple[str, ...] = ()


def listening() -> Listening:
    """What is configured; the defaults where it may not be read: a daemon may run on it all the same."""
    try:
        return _of(load().settings)
    except ConfigurationError as error:
        return _of(Settings(), *map(str, error.mistakes))


def _of(settings: Settings, *doubts: str) -> Listening:
    return Listening(places(settings).socket, settings.api.host, settings.api.port, doubts)
