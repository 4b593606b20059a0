"""``mlopsd status``: the health from the running daemon, for people, programs and monitoring plugins."""

import json
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator

from mlopsd.cli.client import (
    DaemonClient,
    DaemonResponse,
    DaemonUnreachable,
    add_connection_options,
    find_daemon,
)
from mlopsd.cli.errors import CANNOT_TELL, CommandError
from mlopsd.cli.terminal import nagios
from mlopsd.cli.terminal.health_table import TableStyle, format_health
from mlopsd.cli.terminal.text import fill_width, is_coloured, sanitize

REDRAW = 2.0  # seconds
CLEAR = "\x1b[H\x1b[2J"


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the form of the output and the daemon's address."""
    forms = parser.add_mutually_exclusive_group()
    forms.add_argument("--json", action="store_true", help="print the daemon's response as JSON")
    forms.add_argument("--nagios", action="store_true", help="print one line, for monitoring plugins")
    forms.add_argument("--watch", action="store_true", help=f"refresh every {REDRAW:g} s until Ctrl-C")
    verbose = "list every finding, and each reading's age"
    parser.add_argument("-v", "--verbose", action="store_true", help=verbose)
    add_connection_options(parser)
    parser.epilog = "exit status: 0 healthy, 1 degraded, 2 unhealthy, 3 unknown or no response"


def run(arguments: Namespace) -> int:
    """Print the health from the daemon; the exit status is the verdict."""
    if arguments.watch:
        return _watch(arguments)
    try:
        running, health = find_daemon(arguments)
    except CommandError as failure:
        if arguments.nagios:  # nobody reads a monitoring plugin's standard error
            print(nagios.format_line(CANNOT_TELL, failure))
            return CANNOT_TELL
        raise
    print(_format(arguments, running, health))
    return nagios.exit_status(health.body)


def _format(arguments: Namespace, running: DaemonClient, health: DaemonResponse) -> str:
    if arguments.json:
        return json.dumps(health.body, indent=2, ensure_ascii=False)
    if arguments.nagios:
        return nagios.format_health(health.body)
    return _format_for_people(arguments, running, health)


def _format_for_people(arguments: Namespace, running: DaemonClient, health: DaemonResponse) -> str:
    style = TableStyle(fill_width(), coloured=is_coloured(sys.stdout), shows_all=arguments.verbose)
    shown = format_health(health.body, style)
    command = "mlopsd explain" + (f" --url {sanitize(arguments.url)}" if arguments.url else "")
    more = [] if health.body["status"] == "healthy" else ["", f"what to do: {command}"]
    return "\n".join([shown, *more, *_notes(running)])


def _notes(running: DaemonClient) -> Iterator[str]:
    """Yield the error of the last reload of the configuration, and what needs a restart of the daemon."""
    try:
        configuration = running.get("/info").body.get("configuration", {})
    except DaemonUnreachable:
        return
    notes = {
        "the last reload of the configuration failed:": str(configuration.get("error", "")).splitlines(),
        "other code is installed than runs:": configuration.get("outdated", []),
    }
    for title, lines in notes.items():
        if lines:
            yield f"\n{title}"
            yield from (f"  {sanitize(line)}" for line in lines)


def _watch(arguments: Namespace) -> int:
    """Print the health repeatedly until Ctrl-C; return the last exit status."""
    status = CANNOT_TELL
    try:
        while True:
            try:
                running, health = find_daemon(arguments)
                shown = _format_for_people(arguments, running, health)
                status = nagios.exit_status(health.body)
            except CommandError as failure:
                shown, status = str(failure), CANNOT_TELL
            print(f"{CLEAR if sys.stdout.isatty() else ''}{shown}\n", flush=True)
            time.sleep(REDRAW)
    except KeyboardInterrupt:
        return status
