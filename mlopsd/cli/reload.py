"""``mlopsd reload``: the configuration, or what one probe watches; waits for the end, with progress."""

import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlencode

from mlopsd.cli import INTERRUPTED
from mlopsd.cli.client import discovery
from mlopsd.cli.client.client import DaemonClient, DaemonResponse, DaemonUnreachable
from mlopsd.cli.errors import CommandError
from mlopsd.cli.terminal import rollout_progress
from mlopsd.cli.terminal.progress import ProgressLine
from mlopsd.cli.terminal.rollout_progress import Meter
from mlopsd.cli.terminal.text import harmless

CONFIGURATION_TIMEOUT = 60.0  # seconds; every probe whose table changed is ended first, 2 s at most
POLL = 0.5  # seconds
PATIENCE = 30.0  # seconds without an answer


def add_arguments(parser: ArgumentParser) -> None:
    """What to reload and how, and where the daemon is."""
    parser.add_argument("probe", nargs="?", metavar="PROBE", help="the probe; left out, the configuration")
    parser.add_argument("--dry-run", action="store_true", help="say what a probe would do, and do nothing")
    parser.add_argument("--force", action="store_true", help="override the refusal of a probe; it is logged")
    discovery.add_arguments(parser)
    parser.epilog = "exit status: 0 done, 1 refused or failed, with the reason; Ctrl-C ends the waiting alone"


def run(arguments: Namespace) -> int:
    """Have it done.

    Raises:
        Failure: the daemon refused, failed, or does not answer.
    """
    how = {name: "true" for name in ("dry_run", "force") if getattr(arguments, name)}
    if how and arguments.probe is None:
        raise CommandError("cannot reload: --dry-run and --force are for a probe; name one")
    running, _ = discovery.find(arguments)
    try:
        if arguments.probe is None:
            _reload_configuration(running)
        else:
            print(harmless(_reload_probe(running, arguments.probe, how)))
    except DaemonUnreachable as silence:
        raise CommandError(f"cannot reload: {silence}; look at journalctl -u mlopsd") from silence
    return 0


def _reload_configuration(running: DaemonClient) -> None:
    answer = running.post("/reload", CONFIGURATION_TIMEOUT)
    if mistakes := answer.body.get("mistakes"):
        raise CommandError(*(f"cannot reload the configuration: {harmless(mistake)}" for mistake in mistakes))
    _check("the configuration", running, answer)
    for change in answer.body.get("changes") or ["nothing changed"]:
        print(harmless(change))


def _reload_probe(running: DaemonClient, probe: str, how: Mapping[str, str]) -> str:
    """What was done, in the probe's words."""
    query = f"?{urlencode(how)}" if how else ""
    answer = running.post(f"{_path(probe)}/reload{query}", PATIENCE)
    _check(f"probe {probe!r}", running, answer)
    if answer.body.get("state") == "done":
        return str(answer.body.get("detail", "done"))
    try:
        with ProgressLine(sys.stderr) as progress:
            return _wait(running, probe, str(answer.body.get("started_at")), progress)
    except KeyboardInterrupt:
        goes_on = f"the reload of probe {probe!r} goes on without being waited for"
        raise CommandError(f"{goes_on}; see how it ends with mlopsd status", status=INTERRUPTED) from None


def _wait(running: DaemonClient, probe: str, started_at: str, progress: ProgressLine) -> str:
    """Ask until the reload that began at *started_at* has ended."""
    told = Meter()
    while True:
        reading = running.get(_path(probe)).body
        reload = reading.get("reload") or {}
        if reload.get("started_at") != started_at:
            raise CommandError(f"cannot tell how the reload of {probe!r} ended: another began, or mlopsd did")
        if reload.get("state") != "running":
            return _ended(probe, reload)
        _show(probe, reading, told, progress)
        time.sleep(POLL)


def _show(probe: str, reading: Mapping[str, Any], told: Meter, progress: ProgressLine) -> None:
    """How far it is: a model's progress is a table, another probe's a sentence, if it has one."""
    fact = reading.get("facts", {}).get("progress")
    if isinstance(fact, Mapping):
        progress.show(told.live(fact), plain=rollout_progress.plain(fact))
    else:
        progress.show(f"reloading {probe}: {fact or reading['summary']}")


def _ended(probe: str, reload: dict[str, Any]) -> str:
    if reload.get("state") != "done":
        reason = f"{reload.get('state')}: {reload.get('detail')}"
        raise CommandError(f"cannot reload probe {probe!r}: {harmless(reason)}")
    return str(reload.get("detail", "done"))


def _path(probe: str) -> str:
    return f"/health/{quote(probe, safe='')}"


def _check(what: str, running: DaemonClient, answer: DaemonResponse) -> None:
    if answer.went_well:
        return
    refused = answer.status == HTTPStatus.FORBIDDEN and not running.address.startswith("unix:")
    cure = "; or be root, or of the daemon's group, to reach its Unix socket" if refused else ""
    reason = harmless(answer.detail)
    said = reason if reason.startswith("cannot reload") else f"cannot reload {what}: {reason}"
    raise CommandError(said + cure)
