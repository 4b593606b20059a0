"""The option ``--config`` of several commands, and the load of its configuration."""

from argparse import ArgumentParser
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from mlopsd.board import Board
from mlopsd.cli.errors import CommandError
from mlopsd.config.errors import ConfigurationError
from mlopsd.config.load import LoadedConfig, load
from mlopsd.config.probes import ProbeConfig, read_configuration
from mlopsd.config.sources import Tree
from mlopsd.daemon.preflight import clashing
from mlopsd.metrics.registry import Metrics


def add_config_option(parser: ArgumentParser) -> None:
    """Declare ``--config``."""
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="the configuration (default: $MLOPSD_CONFIG, /etc/mlopsd/config.toml, or built-in defaults)",
    )


def load_configuration(
    config: Path | None, arguments: Tree | None = None
) -> tuple[LoadedConfig, Sequence[ProbeConfig]]:
    """Load all settings and import the configured probes.

    Raises:
        CommandError: The configuration is invalid, with a line for each error.
    """
    try:
        loaded, configured = read_configuration(lambda: load(config, arguments))
    except ConfigurationError as error:
        raise CommandError(*map(str, error.mistakes)) from error
    if clashes := list(clashing(Metrics(Board(), version("mlopsd")), configured)):
        raise CommandError(*map(str, clashes))
    return loaded, configured
