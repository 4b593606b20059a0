"""Where the configuration of this host says that the daemon listens, as far as this user may read it."""

from pathlib import Path

from mlopsd.settings import Settings
from mlopsd.settings.load import load
from mlopsd.settings.mistakes import ConfigurationError
from mlopsd.state import places


def socket_path() -> Path:
    """The Unix socket of a daemon with this configuration."""
    return places(_settings()).socket


def listening_on() -> tuple[str, int]:
    """The host and the port of a daemon with this configuration."""
    api = _settings().api
    return api.host, api.port


def _settings() -> Settings:
    """What is configured; the defaults where it may not be read: a daemon may run on it all the same."""
    try:
        return load().settings
    except ConfigurationError:
        return Settings()
