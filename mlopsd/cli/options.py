"""The option ``--config`` of several commands, and the configuration that it names."""

from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from mlopsd.cli.errors import CommandError
from mlopsd.config.errors import ConfigurationError
from mlopsd.config.load import LoadedConfig, load
from mlopsd.config.probes import ProbeConfig, read_configuration
from mlopsd.config.sources import Tree


def add_config_option(parser: ArgumentParser) -> None:
    """Declare ``--config``."""
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="the configuration (else $MLOPSD_CONFIG, else /etc/mlopsd/config.toml, else built-in defaults)",
    )


def load_configuration(
    config: Path | None, arguments: Tree | None = None
) -> tuple[LoadedConfig, Sequence[ProbeConfig]]:
    """Load all settings and import the probes that they configure.

    Raises:
        CommandError: a line for each mistake.
    """
    try:
        return read_configuration(lambda: load(config, arguments))
    except ConfigurationError as error:
        raise CommandError(*map(str, error.mistakes)) from error
