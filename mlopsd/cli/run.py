"""``mlopsd run``: the daemon, in the foreground, until SIGTERM."""

from argparse import ArgumentParser, Namespace
from typing import Any

from mlopsd.cli import autoreload
from mlopsd.cli.errors import CommandError
from mlopsd.cli.options import add_config_option
from mlopsd.config.errors import ConfigurationError
from mlopsd.config.load import LoadedConfig, load
from mlopsd.daemon import daemon
from mlopsd.state_dir import StateError
from mlopsd.web.server.listener import ListenError


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the options that override the configuration."""
    add_config_option(parser)
    parser.add_argument("--host", help="the address to listen on, over [api] host")
    parser.add_argument("--port", help="the port to listen on, over [api] port")
    parser.add_argument(
        "--debug", action="store_true", help="development mode: text logs, /docs, POSTs from this host"
    )
    parser.add_argument(
        "--reload", action="store_true", help="with --debug: start anew when code or configuration changes"
    )
    parser.epilog = "exit status: 0 after SIGTERM, 1 if it cannot start"


def run(arguments: Namespace) -> int:
    """Run the daemon until SIGTERM.

    Raises:
        CommandError: it cannot start.
    """
    if arguments.reload:
        return autoreload.run(arguments)

    def read() -> LoadedConfig:
        return load(arguments.config, _overrides(arguments))

    try:
        return daemon.main(read)
    except ConfigurationError as error:
        raise CommandError(*map(str, error.mistakes)) from error
    except (StateError, ListenError) as error:
        raise CommandError(str(error)) from error


def _overrides(arguments: Namespace) -> dict[str, Any]:
    """Return the options as tables of the configuration, to be validated with it."""
    api = {key: value for key in ("host", "port") if (value := getattr(arguments, key)) is not None}
    return ({"api": api} if api else {}) | ({"debug": True} if arguments.debug else {})
