"""The completions of shells and the man page, which are made from the parsers of the commands."""

import re
from argparse import Action, ArgumentParser
from collections.abc import Iterator

import shtab

from mlopsd.cli import available, load_command
from mlopsd.cli.demo.folder import default_folder

PATHS = {"FILE": shtab.FILE, "FOLDER": shtab.DIRECTORY, "DIR": shtab.DIRECTORY}
PROBES = {"bash": "_mlopsd_probes"}
BASH = r"""
_mlopsd_probes() {
  local file=${MLOPSD_CONFIG:-/etc/mlopsd/config.toml}
  compgen -W "$(sed -n 's/^\[probes\.\([a-z0-9_-]*\)\]$/\1/p' "$file" 2>/dev/null)" -- "$1"
}
"""
PAGE = r""".TH MLOPSD 1 "" mlopsd "mlopsd"
.SH NAME
mlopsd \- the health of a GPU host that serves MLflow models
.SH SYNOPSIS
.B mlopsd
.I COMMAND
.RI [ ARGUMENT ...]
.SH DESCRIPTION
The daemon runs probes of the model, the GPUs and the system.
It tells over HTTP whether this host can serve its model now and, if not, what should be done.
.PP
At a fault run
.BR "mlopsd status" .
.SH COMMANDS
%s.SH EXIT STATUS
.B check
and
.B status
exit with 0 if the host is healthy, 1 if degraded, 2 if unhealthy, 3 if unknown or unanswered.
Any other command exits with 0 if it is done, 1 if it failed, 2 if the command line is wrong.
.SH ENVIRONMENT
.TP
.B MLOPSD_CONFIG
The configuration.
.TP
.B MLOPSD_SOCKET
The Unix socket of the daemon.
.SH FILES
.TP
.I /etc/mlopsd/config.toml
The configuration, every key with its default.
.TP
.I /run/mlopsd/mlopsd.sock
The Unix socket; root and members of the group
.B mlopsd
may act over it.
.TP
.I /var/lib/mlopsd
The state.
.SH SEE ALSO
.BR systemctl (1),
.BR journalctl (1)
"""


def files() -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each file."""
    for name, shell in (("mlopsd.bash", "bash"), ("_mlopsd", "zsh"), ("mlopsd.fish", "fish")):
        preamble = {"bash": BASH} if shell == "bash" else ""
        text = shtab.complete(whole_parser(), shell, preamble=preamble)  # type: ignore[arg-type]  # it takes both
        yield name, _portable(text.rstrip()) + "\n"
    yield "mlopsd.1", PAGE % "".join(_section(name, parser) for name, parser in parsers())


def parsers() -> Iterator[tuple[str, ArgumentParser]]:
    """Yield the name and the parser of each command."""
    for name, purpose in available().items():
        parser, command = ArgumentParser(prog=f"mlopsd {name}"), load_command(name)
        parser.description = getattr(command, "purpose", None) or purpose
        command.add_arguments(parser)
        yield name, parser


def whole_parser() -> ArgumentParser:
    """Return one parser with all commands; files and probes complete as such."""
    whole = ArgumentParser(prog="mlopsd")
    whole.add_argument("--version", action="store_true", help="print the version and exit")
    commands = whole.add_subparsers()
    for name, parser in parsers():
        commands.add_parser(name, help=parser.description, description=parser.description)
        commands.choices[name] = parser
        for action in parser._actions:
            if completion := PATHS.get(str(action.metavar)) or (
                PROBES if str(action.metavar or action.dest).lower().startswith("probe") else None
            ):
                action.complete = completion  # type: ignore[attr-defined]  # as shtab asks for it
    return whole


def _section(name: str, parser: ArgumentParser) -> str:
    options = [action for action in parser._actions if action.dest != "help"]
    rows = "".join(f".TP\n.B {_escape(usage(action))}\n{_escape(action.help or '')}\n" for action in options)
    purpose, end = (_escape(sentence(text or "")) for text in (parser.description, parser.epilog))
    return f".SS mlopsd {_escape(name)}\n{purpose}\n{rows}" + (f".PP\n{end}\n" if end else "")


def usage(action: Action) -> str:
    """Return an argument as it is typed: ``--config FILE``."""
    takes = str(action.metavar or "|".join(action.choices or ()) or action.dest.upper())
    if not action.option_strings:
        return takes
    value = f" [{takes}]" if action.nargs == "?" else f" {takes}"
    return ", ".join(action.option_strings) + ("" if action.nargs == 0 else value)


def sentence(text: str) -> str:
    """Return *text* as a sentence; "" stays."""
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _escape(text: str) -> str:
    """Return *text* so that roff shows it as it is; a line must not begin with a control character."""
    plain = _portable(" ".join(text.split())).replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^([.'])", r"\\&\1", plain)


def _portable(text: str) -> str:
    """Return *text* without the home of the user who made it."""
    folder = str(default_folder())
    for written in (folder, folder.replace("/", "\\/")):
        text = text.replace(written, "~/.local/state/mlopsd-demo")
    return text
