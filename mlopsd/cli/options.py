"""Options that several commands share, and the configuration that they name."""

from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from mlopsd.cli.errors import CommandError
from mlopsd.config.errors import ConfigurationError
from mlopsd.config.load import LoadedConfig, load
from mlopsd.config.probes import ProbeConfig, read_configuration
from mlopsd.config.sources import Tree


def add_config(parser: ArgumentParser) -> None:
    """``--config``."""
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="the configuration (else $MLOPSD_CONFIG, else /etc/mlopsd/config.toml, else built-in defaults)",
    )


def configuration(
    config: Path | None, arguments: Tree | None = None
) -> tuple[LoadedConfig, Sequence[ProbeConfig]]:
    """Everything that is configured, and the probes that it wants.

    Raises:
        Failure: a line for each mistake.
    """
    try:
        return read_configuration(lambda: load(config, arguments))
    except ConfigurationError as error:
        raise CommandError(*map(str, error.mistakes)) from error
