"""``mlopsd history``: the changes of the host and who acted, from the daemon or from its file."""

import json
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from mlopsd.cli.client import add_connection_options, find_daemon
from mlopsd.cli.errors import CommandError, print_error
from mlopsd.cli.terminal.history_table import format_history
from mlopsd.cli.terminal.text import fill_width, is_coloured

CENTURY = 36_500 * 86_400.0  # seconds
Document = Mapping[str, Any]


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the time, the form of the output and the daemon's address."""
    since = "how long ago, such as 2h or 7d (default: 24h)"
    parser.add_argument("since", nargs="?", default="24h", metavar="SINCE", help=since)
    parser.add_argument("--json", action="store_true", help="print JSON, as GET /health/history returns it")
    add_connection_options(parser)
    parser.epilog = "exit status: 0 printed, 1 no daemon answers and its file cannot be read"


def run(arguments: Namespace) -> int:
    """Print the history.

    Raises:
        CommandError: There is no history, or SINCE is not a duration.
    """
    seconds = _seconds(arguments.since)
    try:
        running, _ = find_daemon(arguments)
    except CommandError as error:
        history = _from_file(seconds, error)
    else:
        answer = running.get(f"/health/history?since={seconds:.3f}")
        if not answer.is_success:
            raise CommandError(f"cannot read the history: {answer.detail}")
        history = answer.body
    print(_format(history, arguments.since, as_json=arguments.json))
    return 0


def _format(history: Document, since: str, *, as_json: bool) -> str:
    if as_json:
        return json.dumps(history, indent=2)
    if not history["events"]:
        return f"no change within {since}"
    return format_history(history["events"], width=fill_width(), coloured=is_coloured(sys.stdout))


def _seconds(text: str) -> float:
    """Return the duration *text* in seconds.

    Raises:
        CommandError: It is not a duration.
    """
    from mlopsd.units import seconds  # noqa: PLC0415  # pydantic takes 0.2 s: only for this command

    try:
        return min(float(seconds(text)), CENTURY)  # type: ignore[arg-type]  # text gives a number
    except ValueError:
        complaint = f"cannot understand SINCE {text!r}: not a duration; write it like 2h or 7d"
        raise CommandError(complaint) from None


def _from_file(seconds: float, unreachable: CommandError) -> Document:
    """Return the history in the state folder, because no daemon answers.

    Raises:
        CommandError: The configuration or the file cannot be read.
    """
    from mlopsd.config.errors import ConfigurationError  # noqa: PLC0415  # as above
    from mlopsd.config.load import load  # noqa: PLC0415  # as above
    from mlopsd.history import read_history, split_event  # noqa: PLC0415  # as above
    from mlopsd.state_dir import places  # noqa: PLC0415  # as above

    moment = datetime.now(UTC) - timedelta(seconds=seconds)
    try:
        folder = places(load().settings).state
        events = read_history(folder, moment)
    except (ConfigurationError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise CommandError(*unreachable.lines, f"cannot read its file in place of it: {reason}") from error
    print_error(*unreachable.lines, f"this is the history in {folder}")
    return {"since": moment.isoformat(), "events": list(map(split_event, events))}
