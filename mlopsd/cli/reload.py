"""``mlopsd reload``: reload the configuration or one probe, and wait for the end with progress."""

import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from mlopsd.cli import INTERRUPTED
from mlopsd.cli.client import (
    DaemonClient,
    DaemonResponse,
    DaemonUnreachable,
    add_connection_options,
    find_daemon,
)
from mlopsd.cli.errors import CommandError
from mlopsd.cli.terminal.text import sanitize

if TYPE_CHECKING:
    from mlopsd.cli.terminal.progress import ProgressLine, RolloutMeter

CONFIGURATION_TIMEOUT = 60.0  # seconds; the daemon first ends each probe with a changed table, in 2 s at most
POLL = 0.5  # seconds
PROBE_TIMEOUT = 30.0  # seconds without a response


def add_arguments(parser: ArgumentParser) -> None:
    """Declare what to reload, how, and the daemon's address."""
    parser.add_argument(
        "probe", nargs="?", metavar="PROBE", help="the probe to reload (default: the configuration)"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print what a reload of the probe would do, and do nothing"
    )
    parser.add_argument(
        "--force", action="store_true", help="override a refusal of the probe; this is logged"
    )
    add_connection_options(parser)
    parser.epilog = (
        "exit status: 0 done, 1 refused or failed, with the reason; Ctrl-C ends only the wait, not the reload"
    )


def run(arguments: Namespace) -> int:
    """Reload and wait for the end.

    Raises:
        CommandError: The daemon refused, failed, or does not answer.
    """
    options = {name: "true" for name in ("dry_run", "force") if getattr(arguments, name)}
    if options and arguments.probe is None:
        raise CommandError("cannot reload: --dry-run and --force need a probe; name one")
    running, _ = find_daemon(arguments, to_act=True)
    try:
        if arguments.probe is None:
            _reload_configuration(running)
        else:
            print(sanitize(_reload_probe(running, arguments.probe, options)))
    except DaemonUnreachable as error:
        raise CommandError(f"cannot reload: {error}; see journalctl -u mlopsd") from error
    return 0


def _reload_configuration(running: DaemonClient) -> None:
    answer = running.post("/reload", CONFIGURATION_TIMEOUT)
    if mistakes := answer.body.get("mistakes"):
        raise CommandError(*(f"cannot reload the configuration: {sanitize(mistake)}" for mistake in mistakes))
    _raise_for_status("the configuration", running, answer)
    for change in answer.body.get("changes") or ["nothing changed"]:
        print(sanitize(change))


def _reload_probe(running: DaemonClient, probe: str, options: Mapping[str, str]) -> str:
    """Reload *probe* and return its own sentence about the result."""
    query = f"?{urlencode(options)}" if options else ""
    answer = running.post(f"{_path(probe)}/reload{query}", PROBE_TIMEOUT)
    _raise_for_status(f"probe {probe!r}", running, answer)
    if answer.body.get("state") == "done":
        return str(answer.body.get("detail", "done"))
    from mlopsd.cli.terminal.progress import ProgressLine  # noqa: PLC0415  # imports pydantic, which --help does not need

    try:
        with ProgressLine(sys.stderr) as progress:
            return _wait(running, probe, str(answer.body.get("started_at")), progress)
    except KeyboardInterrupt:
        continues = f"the reload of probe {probe!r} continues in the daemon"
        raise CommandError(f"{continues}; see its result with mlopsd status", status=INTERRUPTED) from None


def _wait(running: DaemonClient, probe: str, started_at: str, progress: "ProgressLine") -> str:
    """Poll until the end of the reload that began at *started_at*."""
    from mlopsd.cli.terminal.progress import RolloutMeter  # noqa: PLC0415  # as above

    meter = RolloutMeter()
    while True:
        reading = running.get(_path(probe)).body
        reload = reading.get("reload") or {}
        if reload.get("started_at") != started_at:
            raise CommandError(
                f"cannot get the result of the reload of {probe!r}: another one or mlopsd has started"
            )
        if reload.get("state") != "running":
            return _outcome(probe, reload)
        _show_progress(probe, reading, meter, progress)
        time.sleep(POLL)


def _show_progress(
    probe: str, reading: Mapping[str, Any], meter: "RolloutMeter", progress: "ProgressLine"
) -> None:
    """Show the fact ``progress``: a table for a model, a sentence or nothing for another probe."""
    from mlopsd.cli.terminal.progress import format_log_line  # noqa: PLC0415  # as above
    from mlopsd.predictor import Progress  # noqa: PLC0415  # as above

    fact = reading.get("facts", {}).get("progress")
    if (step := Progress.read(fact)) is not None:
        progress.show(meter.format_live(step), plain=format_log_line(step))
    else:
        text = fact if fact and isinstance(fact, str) else reading["summary"]
        progress.show(f"reloading {probe}: {text}")


def _outcome(probe: str, reload: dict[str, Any]) -> str:
    if reload.get("state") != "done":
        reason = f"{reload.get('state')}: {reload.get('detail')}"
        raise CommandError(f"cannot reload probe {probe!r}: {sanitize(reason)}")
    return str(reload.get("detail", "done"))


def _path(probe: str) -> str:
    return f"/health/{quote(probe, safe='')}"


def _raise_for_status(what: str, running: DaemonClient, answer: DaemonResponse) -> None:
    if answer.is_success:
        return
    is_forbidden = answer.status == HTTPStatus.FORBIDDEN and not running.address.startswith("unix:")
    fix = "; or be root, or a member of the daemon's group, to use its Unix socket" if is_forbidden else ""
    reason = sanitize(answer.detail)
    failure = reason if reason.startswith("cannot reload") else f"cannot reload {what}: {reason}"
    raise CommandError(failure + fix)
