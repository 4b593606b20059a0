"""The command line: one file per command, imported only when the command is given, for a fast start."""

import importlib
import os
import re
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from difflib import get_close_matches
from importlib.metadata import version
from typing import NoReturn, Protocol, cast

from mlopsd.cli.errors import CANNOT_TELL, CommandError, print_error

PACKAGES = frozenset({"demo", "install"})  # commands of more than one file
COMMANDS = {
    "run": "run the daemon",
    "check": "check this host once, here and now, without a daemon",
    "status": "ask the running daemon how the host is",
    "reload": "have the running daemon read its configuration again, or a probe take its subject up anew",
    "probes": "list the installed probes and their options, or why one cannot load",
    "config": "validate the configuration, or print what is in force",
    "demo": "show it all at once: a registry, a small model in it, and the daemon that watches both",
    "install": "set mlopsd up as a systemd service of this host, or take it away again",
}
NAGIOS = frozenset({"check", "status"})  # where 1 and 2 are verdicts, so that no mistake may look like one
WRONG_USAGE = 2
INTERRUPTED = 130  # 128 and SIGINT's number, as a shell has it
OPTION = re.compile(r"--[a-z][a-z-]*")


class Command(Protocol):
    """The module of a command."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the command's options."""

    def run(self, arguments: Namespace) -> int:
        """Run the command and return the exit status.

        Raises:
            CommandError: it cannot be done.
        """


class Parser(ArgumentParser):
    """A parser that explains wrong arguments in one line."""

    wrong_usage = WRONG_USAGE
    commands: Sequence["Parser"] = ()  # those whose options are declared

    def error(self, message: str) -> NoReturn:
        """Print *message* with the way to help, and exit."""
        print_error(f"cannot understand the command line: {message}; see {self.prog} --help")
        self.exit(self.wrong_usage)

    def parse_or_exit(self, words: Sequence[str]) -> Namespace:
        """Parse *words*; exit at an unknown option and name the nearest one."""
        arguments, unknown = self.parse_known_args(words)
        if unknown:
            chosen = self.commands[0] if self.commands else self
            chosen.error(f"unrecognized arguments: {' '.join(unknown)}{self._suggest(unknown)}")
        return arguments

    def _suggest(self, unknown: Sequence[str]) -> str:
        usages = "".join(parser.format_usage() for parser in (self, *self.commands))
        known = [*OPTION.findall(usages), "--help"]  # a usage shows that one as -h
        names = (word.partition("=")[0] for word in unknown if word.startswith("-"))
        found = [match for name in names for match in get_close_matches(name, known, n=1)]
        return f" (did you mean {found[0]}?)" if found else ""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command in *argv* and return the exit status; print a failure as one line on standard error."""
    words = sys.argv[1:] if argv is None else argv
    chosen = next((word for word in words if word in COMMANDS), None)
    parser, command = _build_parser(chosen)
    arguments = parser.parse_or_exit(words)
    if arguments.version:
        print(f"mlopsd {version('mlopsd')}")
        return 0
    if command is None:
        parser.print_help(sys.stderr)
        return WRONG_USAGE
    return _run(command, arguments, CANNOT_TELL if chosen in NAGIOS else 1)


def _build_parser(chosen: str | None) -> tuple[Parser, Command | None]:
    """Return the parser of the whole line, with the options of *chosen* alone, and its module."""
    parser = Parser(prog="mlopsd", description="The health of a GPU host.", allow_abbrev=False)
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    command = None
    for name, purpose in COMMANDS.items():
        its_parser = commands.add_parser(name, help=purpose, description=purpose, allow_abbrev=False)
        if name == chosen:
            command = cast("Command", importlib.import_module(module_of(name)))
            command.add_arguments(its_parser)
            parser.commands = [its_parser]
            parser.wrong_usage = its_parser.wrong_usage = CANNOT_TELL if name in NAGIOS else WRONG_USAGE
    return parser, command


def module_of(name: str) -> str:
    """Return the module of the command *name*."""
    return f"mlopsd.cli.{name}.command" if name in PACKAGES else f"mlopsd.cli.{name}"


def _run(command: Command, arguments: Namespace, failed: int) -> int:
    """Run *command*; *failed* is the status of a failure that names none."""
    try:
        status = command.run(arguments)
        sys.stdout.flush()
    except CommandError as failure:
        print_error(*failure.lines)
        return failed if failure.status is None else failure.status
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader (head, grep -q) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return failed
    return status
