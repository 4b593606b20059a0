"""The command line: one module per command, imported only when the command is given.

Other packages add commands by entry points, see `mlopsd.cli.subcommands`.
"""

import importlib
import os
import re
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from importlib.metadata import version
from typing import NoReturn, Protocol, cast

from mlopsd.cli import subcommands
from mlopsd.cli.errors import CANNOT_TELL, CommandError, print_error

PACKAGES = frozenset({"bundle", "demo", "install"})  # commands of more than one file
COMMANDS = {
    "run": "run the daemon",
    "check": "check this host once, without a daemon",
    "status": "show the health of the host, from the running daemon",
    "explain": "explain what is wrong: its meaning, how to confirm it and what to do",
    "doctor": "examine how mlopsd is set up on this host",
    "bundle": "pack what a ticket needs: state, log, GPUs and kernel, without secrets",
    "history": "show the changes of the host and who acted",
    "reload": "reload the configuration of the running daemon, or one probe",
    "probes": "list the installed probes and their options, or why one cannot be loaded",
    "config": "validate the configuration, or print the effective one",
    "key": "make an API key",
    "demo": "run a demo: a registry, a small model, and the daemon that serves it",
    "install": "install mlopsd as a systemd service of this host, or remove it",
}
NAGIOS = frozenset({"check", "status"})  # their statuses 1 and 2 are verdicts, so an error must not use these
WRONG_USAGE = 2
INTERRUPTED = 130  # 128 and SIGINT's number, as in a shell
OPTION = re.compile(r"--[a-z][a-z-]*")


class Command(Protocol):
    """The module of a command."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the command's options."""

    def run(self, arguments: Namespace) -> int:
        """Run the command and return the exit status.

        Raises:
            CommandError: The command cannot be done.
        """


class Parser(ArgumentParser):
    """A parser that reports wrong arguments in one line."""

    wrong_usage = WRONG_USAGE
    commands: Sequence["Parser"] = ()  # the parsers with declared options

    def error(self, message: str) -> NoReturn:
        """Print *message* with a hint at ``--help``, and exit."""
        print_error(f"cannot understand the command line: {message}; see {self.prog} --help")
        self.exit(self.wrong_usage)

    def parse_or_exit(self, argv: Sequence[str]) -> Namespace:
        """Parse *argv*. At an unknown option, suggest the nearest one and exit."""
        arguments, unknown = self.parse_known_args(argv)
        if unknown:
            chosen = self.commands[0] if self.commands else self
            chosen.error(f"unrecognized arguments: {' '.join(unknown)}{self._suggest(unknown)}")
        return arguments

    def _suggest(self, unknown: Sequence[str]) -> str:
        usages = "".join(parser.format_usage() for parser in (self, *self.commands))
        known = [*OPTION.findall(usages), "--help"]  # a usage shows --help as -h
        names = (argument.partition("=")[0] for argument in unknown if argument.startswith("-"))
        found = [match for name in names for match in get_close_matches(name, known, n=1)]
        return f" (did you mean {found[0]}?)" if found else ""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command in *argv* and return the exit status; print an error as one line on standard error."""
    given = sys.argv[1:] if argv is None else argv
    try:
        chosen = _chosen(given)
        parser, command = _build_parser(chosen)
    except CommandError as failure:
        print_error(*failure.lines)
        return 1
    if chosen is None and (word := _first_word(given)) is not None:
        parser.error(f"no command {word!r}; {_nearest_command(word)}")
    arguments = parser.parse_or_exit(given)
    if arguments.version:
        print(f"mlopsd {version('mlopsd')}")
        return 0
    if command is None:
        parser.print_help(sys.stderr)
        return WRONG_USAGE
    return _run(command, arguments, CANNOT_TELL if chosen in NAGIOS else 1)


def _chosen(given: Sequence[str]) -> str | None:
    """Return the command in *given*; look for commands of other packages only if it is none of ours."""
    word = _first_word(given)
    if word is not None and word not in COMMANDS and word in subcommands.find():
        return word
    return next((argument for argument in given if argument in COMMANDS), None)


def _first_word(given: Sequence[str]) -> str | None:
    return next((argument for argument in given if not argument.startswith("-")), None)


def _nearest_command(word: str) -> str:
    names = list(available())
    found = get_close_matches(word, names, n=1)
    return f"did you mean {found[0]!r}?" if found else f"the commands are {', '.join(names)}"


def available() -> Mapping[str, str]:
    """Return the purpose of every command by its name, those of other packages included."""
    others = {name: subcommands.describe(points) for name, points in subcommands.find().items()}
    return {**COMMANDS, **{name: line for name, line in others.items() if name not in COMMANDS}}


def load_command(name: str) -> Command:
    """Import the command *name*.

    Raises:
        CommandError: It is of another package and cannot be loaded.
    """
    if name in COMMANDS:
        return cast("Command", importlib.import_module(module_of(name)))
    packaged = importlib.import_module("mlopsd.cli.packaged_command")
    return cast("Command", packaged.load(name, subcommands.find()[name]))


def _build_parser(chosen: str | None) -> tuple[Parser, Command | None]:
    """Return the parser of the whole line, with the options of only *chosen*, and its module."""
    parser = Parser(prog="mlopsd", description="The health of a GPU host.", allow_abbrev=False)
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    command = None
    shown = COMMANDS if chosen in COMMANDS else available()
    for name, purpose in shown.items():
        command_parser = commands.add_parser(name, help=purpose, description=purpose, allow_abbrev=False)
        if name == chosen:
            command = load_command(name)
            command.add_arguments(command_parser)
            parser.commands = [command_parser]
            parser.wrong_usage = command_parser.wrong_usage = CANNOT_TELL if name in NAGIOS else WRONG_USAGE
    return parser, command


def module_of(name: str) -> str:
    """Return the module of the command *name*."""
    return f"mlopsd.cli.{name}.command" if name in PACKAGES else f"mlopsd.cli.{name}"


def _run(command: Command, arguments: Namespace, failed: int) -> int:
    """Run *command*; *failed* is the exit status of an error without one."""
    try:
        status = command.run(arguments)
        sys.stdout.flush()
    except CommandError as failure:
        print_error(*failure.lines)
        return failed if failure.status is None else failure.status
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader (head, grep -q) has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return failed
    return status
