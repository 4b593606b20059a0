"""``mlopsd check``: one check of each probe, here and now, in a state folder that is thrown away."""

import asyncio
import json
import logging
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from mlopsd import log
from mlopsd.cli.errors import CANNOT_TELL, CommandError, complain
from mlopsd.cli.one_shot import check_once
from mlopsd.cli.one_shot_alarm import alarm
from mlopsd.cli.options import add_config, configuration
from mlopsd.cli.terminal import nagios
from mlopsd.cli.terminal.health_table import table
from mlopsd.cli.terminal.progress import ProgressLine
from mlopsd.cli.terminal.text import is_coloured, width
from mlopsd.config.errors import nearest
from mlopsd.config.load import secret_files
from mlopsd.config.probes import ProbeConfig
from mlopsd.state_dir import places

GRACE = 5.0  # seconds beyond the longest timeout: starting and ending the processes of the probes


def add_arguments(parser: ArgumentParser) -> None:
    """Which probes, and how to print."""
    parser.add_argument("probes", nargs="*", metavar="PROBE", help="a configured probe; else all of them")
    parser.add_argument("--json", action="store_true", help="as GET /health/detailed answers it")
    parser.add_argument(
        "--traceback", action="store_true", help="for a probe's author: where its code went wrong, as a log"
    )
    add_config(parser)
    parser.epilog = "exit status: 0 healthy, 1 degraded, 2 unhealthy, 3 unknown, wrong usage or configuration"


def run(arguments: Namespace) -> int:
    """Check and print; the exit status is the verdict.

    Raises:
        Failure: a probe that is not configured, or a configuration that cannot be used.
    """
    loaded, configured = configuration(arguments.config)
    chosen = _chosen(configured, arguments.probes)
    private = (places(loaded.settings).state, *secret_files(loaded))
    longest = max((one.terms.timeout for one in chosen), default=0) + GRACE
    with (
        _speaking(_level(debug=loaded.settings.debug, traceback=arguments.traceback)),
        ProgressLine(sys.stderr) as progress,
        alarm(longest) as put_off,
    ):
        health, refused = asyncio.run(check_once(chosen, progress, put_off, private))
    complain(*refused)
    if arguments.json:
        print(json.dumps(health, indent=2, ensure_ascii=False))
    else:
        print(table(health, width=width(), coloured=is_coloured(sys.stdout)))
    return nagios.exit_status(health)


def _chosen(configured: Sequence[ProbeConfig], names: Sequence[str]) -> list[ProbeConfig]:
    by_name = {one.name: one for one in configured}
    for name in names:
        if name not in by_name:
            hint = nearest(name, by_name)
            raise CommandError(
                f"cannot check {name!r}: no such probe is configured; {hint}", status=CANNOT_TELL
            )
    return [by_name[name] for name in dict.fromkeys(names)] if names else list(configured)


def _level(*, debug: bool, traceback: bool) -> str | None:
    """What to log; None is nothing: the readings say what went wrong, and more is for a probe's author."""
    if debug:
        return "DEBUG"
    return "WARNING" if traceback else None


@contextmanager
def _speaking(level: str | None) -> Iterator[None]:
    """Log from *level* on as text, to the end."""
    if level is None:
        logging.getLogger().addHandler(logging.NullHandler())
        yield
        return
    drain = log.start(level, "text")
    try:
        yield
    finally:
        drain.end()
