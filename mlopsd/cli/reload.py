"""``mlopsd reload``: the configuration, or what one probe watches; waits for the end, with progress."""

import sys
import time
from argparse import ArgumentParser, Namespace
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from mlopsd.cli import whereabouts
from mlopsd.cli.failure import Failure
from mlopsd.cli.progress import Progress
from mlopsd.cli.running import Answer, NoAnswer, Running
from mlopsd.cli.text import harmless

CONFIGURATION_TIMEOUT = 60.0  # seconds; every probe whose table changed is ended first, 2 s at most
POLL = 0.5  # seconds
PATIENCE = 30.0  # seconds without an answer


def add_arguments(parser: ArgumentParser) -> None:
    """What to reload, and where the daemon is."""
    parser.add_argument("probe", nargs="?", metavar="PROBE", help="the probe; left out, the configuration")
    whereabouts.add_arguments(parser)
    parser.epilog = "exit status: 0 done, 1 refused or failed, with the reason"


def run(arguments: Namespace) -> int:
    """Have it done.

    Raises:
        Failure: the daemon refused, failed, or does not answer.
    """
    running, _ = whereabouts.find(arguments)
    try:
        if arguments.probe is None:
            _reload_configuration(running)
        else:
            print(harmless(_reload_probe(running, arguments.probe)))
    except NoAnswer as silence:
        raise Failure(f"cannot reload: {silence}; look at journalctl -u mlopsd") from silence
    return 0


def _reload_configuration(running: Running) -> None:
    answer = running.post("/reload", CONFIGURATION_TIMEOUT)
    if mistakes := answer.body.get("mistakes"):
        raise Failure(*(f"cannot reload the configuration: {harmless(mistake)}" for mistake in mistakes))
    _check("the configuration", running, answer)
    for change in answer.body.get("changes") or ["nothing changed"]:
        print(harmless(change))


def _reload_probe(running: Running, probe: str) -> str:
    """What was done, in the probe's words."""
    path = f"/health/{quote(probe, safe='')}"
    answer = running.post(f"{path}/reload", PATIENCE)
    _check(f"probe {probe!r}", running, answer)
    if answer.body.get("state") == "done":
        return str(answer.body.get("detail", "done"))
    with Progress(sys.stderr) as progress:
        return _wait(running, probe, str(answer.body.get("started_at")), progress)


def _wait(running: Running, probe: str, started_at: str, progress: Progress) -> str:
    """Ask until the reload that began at *started_at* has ended."""
    path = f"/health/{quote(probe, safe='')}"
    while True:
        reading = running.get(path).body
        reload = reading.get("reload") or {}
        if reload.get("started_at") != started_at:
            raise Failure(f"cannot tell how the reload of {probe!r} ended: another began, or mlopsd did")
        if reload.get("state") != "running":
            return _ended(probe, reload)
        progress.show(f"reloading {probe}: {reading.get('facts', {}).get('progress') or reading['summary']}")
        time.sleep(POLL)


def _ended(probe: str, reload: dict[str, Any]) -> str:
    if reload.get("state") != "done":
        reason = f"{reload.get('state')}: {reload.get('detail')}"
        raise Failure(f"cannot reload probe {probe!r}: {harmless(reason)}")
    return str(reload.get("detail", "done"))


def _check(what: str, running: Running, answer: Answer) -> None:
    if answer.went_well:
        return
    refused = answer.status == HTTPStatus.FORBIDDEN and not running.address.startswith("unix:")
    cure = "; or be root, or of the daemon's group, to reach its Unix socket" if refused else ""
    raise Failure(f"cannot reload {what}: {harmless(answer.detail)}{cure}")
