"""A command of an installed package, run as the command line runs its own."""

import importlib
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol, cast

from mlopsd.cli.errors import CommandError
from mlopsd.cli.options import add_config_option, load_configuration
from mlopsd.cli.subcommands import Points, package_of
from mlopsd.config.plugins import one_line
from mlopsd.probe import Options, ProbeError

GUIDE = "docs/extending/commands.md"
PARTS = ("purpose", "add_arguments", "run")


class CommandModule(Protocol):
    """The module of a package's command, as its author writes it.

    Attributes:
        purpose: The first line of its ``--help``.
    """

    purpose: str

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the command's options; ``--config`` is added."""

    def run(self, arguments: Namespace, configured: Callable[[], Mapping[str, Options]]) -> int:
        """Run the command and return the exit status; *configured* returns the options of each probe.

        Raises:
            ProbeError: The command cannot be done: "cannot X: cause; fix".
        """


class PackagedCommand:
    """A command of an installed package."""

    def __init__(self, module: CommandModule) -> None:
        self._module = module
        self.purpose = module.purpose

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the command's options and ``--config``."""
        parser.description = self.purpose
        self._module.add_arguments(parser)
        add_config_option(parser)

    def run(self, arguments: Namespace) -> int:
        """Run the command and return the exit status.

        Raises:
            CommandError: The command cannot be done.
        """
        try:
            return self._module.run(arguments, lambda: _configured(arguments.config))
        except ProbeError as error:
            raise CommandError(*str(error).splitlines()) from error


def load(name: str, points: Points) -> PackagedCommand:
    """Import the command *name*.

    Raises:
        CommandError: Several packages provide it, the import fails, or it lacks a part.
    """
    if len(points) > 1:
        names = " and ".join(f"{package_of(point)} ({point.value})" for point in points)
        raise CommandError(f"cannot run {name}: {names} both provide it; uninstall one of them")
    (point,) = points
    try:
        module = importlib.import_module(point.value)
    except (Exception, SystemExit) as error:  # the import of third-party code may raise anything
        complaint = f"{point.value} fails when imported ({one_line(error)})"
        fix = f"repair or upgrade {package_of(point)}"
        raise CommandError(f"cannot run {name}: {complaint}; {fix}") from error
    if missing := [part for part in PARTS if not hasattr(module, part)]:
        raise CommandError(f"cannot run {name}: {point.value} has no {missing[0]}; see {GUIDE}")
    return PackagedCommand(cast("CommandModule", module))


def _configured(config: Path | None) -> Mapping[str, Options]:
    _, configured = load_configuration(config)
    return {probe.name: probe.options for probe in configured}
