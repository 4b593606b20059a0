"""``mlopsd check``: one check of each probe, in a temporary state folder."""

import json
import logging
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from mlopsd import log
from mlopsd.cli.errors import CANNOT_TELL, CommandError, print_error
from mlopsd.cli.one_shot import check_once
from mlopsd.cli.options import add_config_option, load_configuration
from mlopsd.cli.terminal import nagios
from mlopsd.cli.terminal.health_table import format_health
from mlopsd.cli.terminal.progress import ProgressLine
from mlopsd.cli.terminal.text import fill_width, is_coloured
from mlopsd.config.errors import nearest
from mlopsd.config.load import secret_files
from mlopsd.config.probes import ProbeConfig
from mlopsd.state_dir import places

UNDECLARED = 1  # the exit status of a healthy host with a probe that reports an undeclared sample


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the probes to check and the form of the output."""
    parser.add_argument(
        "probes", nargs="*", metavar="PROBE", help="a configured probe (default: all of them)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, as GET /health/detailed returns it")
    parser.add_argument(
        "--traceback", action="store_true", help="log the traceback of a failing probe, for its author"
    )
    add_config_option(parser)
    parser.epilog = (
        "exit status: 0 healthy, 1 degraded or an undeclared sample, 2 unhealthy, 3 unknown, "
        "or wrong usage or configuration"
    )


def run(arguments: Namespace) -> int:
    """Check and print the health; the exit status is the verdict.

    Raises:
        CommandError: A probe is not configured, or the configuration is invalid.
    """
    loaded, configured = load_configuration(arguments.config)
    chosen = _choose(configured, arguments.probes)
    private_paths = (places(loaded.settings).state, *secret_files(loaded))
    level = _choose_level(debug=loaded.settings.debug, traceback=arguments.traceback)
    with _logging_from(level), ProgressLine(sys.stderr) as progress:
        health, undeclared = check_once(chosen, progress, private_paths)
    print_error(*undeclared)
    if arguments.json:
        print(json.dumps(health, indent=2, ensure_ascii=False))
    else:
        print(format_health(health, width=fill_width(), coloured=is_coloured(sys.stdout)))
    return nagios.exit_status(health) or (UNDECLARED if undeclared else 0)


def _choose(configured: Sequence[ProbeConfig], names: Sequence[str]) -> list[ProbeConfig]:
    by_name = {probe.name: probe for probe in configured}
    for name in names:
        if name not in by_name:
            hint = nearest(name, by_name)
            raise CommandError(
                f"cannot check {name!r}: no such probe is configured; {hint}", status=CANNOT_TELL
            )
    return [by_name[name] for name in dict.fromkeys(names)] if names else list(configured)


def _choose_level(*, debug: bool, traceback: bool) -> str | None:
    """Return the lowest level to log, or None for no log, since the readings have the reasons."""
    if debug:
        return "DEBUG"
    return "WARNING" if traceback else None


@contextmanager
def _logging_from(level: str | None) -> Iterator[None]:
    """Log *level* and above as text; None disables the log."""
    if level is None:
        logging.getLogger().addHandler(logging.NullHandler())
        yield
        return
    drain = log.start(level, "text")
    try:
        yield
    finally:
        drain.end()
