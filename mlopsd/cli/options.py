"""Options that several commands share, and the configuration that they name."""

from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from mlopsd.cli.failure import Failure
from mlopsd.configured import Configured, read_configuration
from mlopsd.settings.layers import Tree
from mlopsd.settings.load import Loaded, load
from mlopsd.settings.mistakes import ConfigurationError


def add_config(parser: ArgumentParser) -> None:
    """``--config``."""
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="the configuration (else $MLOPSD_CONFIG, else /etc/mlopsd/config.toml, else built-in defaults)",
    )


def configuration(config: Path | None, arguments: Tree | None = None) -> tuple[Loaded, Sequence[Configured]]:
    """Everything that is configured, and the probes that it wants.

    Raises:
        Failure: a line for each mistake.
    """
    try:
        return read_configuration(lambda: load(config, arguments))
    except ConfigurationError as error:
        raise Failure(*map(str, error.mistakes)) from error
