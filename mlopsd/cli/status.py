"""``mlopsd status``: what the running daemon says, for people, programs and monitoring plugins."""

import json
import sys
import time
from argparse import ArgumentParser, Namespace

from mlopsd.cli.client import discovery
from mlopsd.cli.client.client import DaemonClient, DaemonResponse, DaemonUnreachable
from mlopsd.cli.errors import CANNOT_TELL, CommandError
from mlopsd.cli.terminal import nagios
from mlopsd.cli.terminal.health_table import table
from mlopsd.cli.terminal.text import harmless, is_coloured, width

REDRAW = 2.0  # seconds
CLEAR = "\x1b[H\x1b[2J"


def add_arguments(parser: ArgumentParser) -> None:
    """How to print it, and where the daemon is."""
    forms = parser.add_mutually_exclusive_group()
    forms.add_argument("--json", action="store_true", help="the daemon's answer, for programs")
    forms.add_argument("--nagios", action="store_true", help="one line, for monitoring plugins")
    forms.add_argument("--watch", action="store_true", help=f"show it anew every {REDRAW:g} s until Ctrl-C")
    discovery.add_arguments(parser)
    parser.epilog = "exit status: 0 healthy, 1 degraded, 2 unhealthy, 3 unknown or no answer"


def run(arguments: Namespace) -> int:
    """Ask and print; the exit status is the verdict."""
    if arguments.watch:
        return _watch(arguments)
    try:
        running, health = discovery.find(arguments)
    except CommandError as failure:
        if arguments.nagios:  # a monitoring plugin's standard error is read by nobody
            print(nagios.sentence(CANNOT_TELL, failure))
            return CANNOT_TELL
        raise
    print(_printed(arguments, running, health))
    return nagios.exit_status(health.body)


def _printed(arguments: Namespace, running: DaemonClient, health: DaemonResponse) -> str:
    if arguments.json:
        return json.dumps(health.body, indent=2, ensure_ascii=False)
    if arguments.nagios:
        return nagios.line(health.body)
    return _for_people(running, health)


def _for_people(running: DaemonClient, health: DaemonResponse) -> str:
    shown = table(health.body, width=width(), coloured=is_coloured(sys.stdout))
    error = _reload_error(running)
    return f"{shown}\n\nthe last reload of the configuration changed nothing:\n{error}" if error else shown


def _reload_error(running: DaemonClient) -> str:
    """Why the last reload of the configuration changed nothing; "" if it went well, or that is not known."""
    try:
        configuration = running.get("/info").body.get("configuration", {})
    except DaemonUnreachable:
        return ""
    return "\n".join(f"  {harmless(line)}" for line in str(configuration.get("error", "")).splitlines())


def _watch(arguments: Namespace) -> int:
    """Print it again and again; Ctrl-C is the way out, with the last verdict."""
    status = CANNOT_TELL
    try:
        while True:
            try:
                running, health = discovery.find(arguments)
                shown, status = _for_people(running, health), nagios.exit_status(health.body)
            except CommandError as failure:
                shown, status = str(failure), CANNOT_TELL
            print(f"{CLEAR if sys.stdout.isatty() else ''}{shown}\n", flush=True)
            time.sleep(REDRAW)
    except KeyboardInterrupt:
        return status
