"""``mlopsd check``: one check of each probe, in a temporary state folder."""

import json
import logging
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from bdb import BdbQuit
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from io import StringIO
from typing import Any

from mlopsd import log
from mlopsd.cli.errors import CANNOT_TELL, CommandError, print_error
from mlopsd.cli.one_shot import CheckMode, CheckResult, check_once
from mlopsd.cli.options import add_config_option, load_configuration
from mlopsd.cli.scrape import ScrapedSeries
from mlopsd.cli.terminal import nagios
from mlopsd.cli.terminal.health_table import TableStyle, format_health
from mlopsd.cli.terminal.progress import ProgressLine
from mlopsd.cli.terminal.text import fill_width, is_coloured, printable
from mlopsd.config.errors import nearest
from mlopsd.config.load import secret_files
from mlopsd.config.probes import ProbeConfig
from mlopsd.failures import BROKEN
from mlopsd.state_dir import places
from mlopsd.worker.mask import SecretMask

COMPLAINT = 1  # the exit status of a healthy host with an undeclared sample


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the probes to check and the form of the output."""
    parser.add_argument(
        "probes", nargs="*", metavar="PROBE", help="a configured probe (default: all of them)"
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="list every finding, healthy ones too")
    parser.add_argument("--json", action="store_true", help="print JSON, as GET /health/detailed returns it")
    parser.add_argument(
        "--samples", action="store_true", help="print the metrics too, as a scrape of the daemon shows them"
    )
    parser.add_argument(
        "--times", type=_times, default=1, metavar="N", help="check N times, a second apart (default: 1)"
    )
    parser.add_argument(
        "--traceback", action="store_true", help="log the traceback of a failing probe, for its author"
    )
    parser.add_argument(
        "--debug",
        action="store_true",
        help="check one probe on this terminal, in this process and without a time limit, for a debugger",
    )
    add_config_option(parser)
    parser.epilog = (
        "exit status: 0 healthy, 1 degraded or an undeclared sample, 2 unhealthy, 3 unknown, "
        "or wrong usage or configuration"
    )


def run(arguments: Namespace) -> int:
    """Check and print the health; the exit status is the verdict.

    Raises:
        CommandError: A probe is not configured, the configuration is invalid, or no debugger can work.
    """
    loaded, configured = load_configuration(arguments.config)
    chosen = _choose(configured, arguments.probes)
    if arguments.debug:
        _refuse_debugging(chosen)
    private_paths = (places(loaded.settings).state, *secret_files(loaded))
    mode = CheckMode(arguments.times, arguments.debug, private_paths)
    level = _choose_level(debug=loaded.settings.debug or arguments.debug, traceback=arguments.traceback)
    mask = SecretMask.of(probe.options for probe in chosen).text
    shown = StringIO() if arguments.debug else sys.stderr
    prints = redirect_stdout(sys.stderr) if arguments.json and not arguments.debug else nullcontext()
    with prints, _logging_from(level, mask), ProgressLine(shown) as progress:
        result = check_once(chosen, progress, mode)
    print_error(*result.complaints)
    _print_result(result, arguments)
    return nagios.exit_status(result.health) or (COMPLAINT if result.complaints else 0)


def _print_result(result: CheckResult, arguments: Namespace) -> None:
    if arguments.json:
        print(
            json.dumps(
                _with_series(result) if arguments.samples else result.health, indent=2, ensure_ascii=False
            )
        )
        return
    coloured, shows_all = is_coloured(sys.stdout), arguments.verbose
    style = TableStyle(fill_width(), coloured=coloured, shows_all=shows_all, shows_since=False)
    print(format_health(result.health, style))
    if arguments.samples:
        print(*_format_series(result.series), sep="\n")
    if not (arguments.traceback or arguments.debug):
        print_error(*_hints(result.health))


def _with_series(result: CheckResult) -> dict[str, Any]:
    probes = {
        name: {**reading, "samples": [series.json for series in result.series[name]]}
        for name, reading in result.health["probes"].items()
    }
    return {**result.health, "probes": probes}


def _format_series(series: Mapping[str, Sequence[ScrapedSeries]]) -> Iterator[str]:
    for name, found in series.items():
        yield f"\nsamples of {name}:" if found else f"\nsamples of {name}: none"
        yield from (f"  {printable(one.text)}" for one in found)


def _hints(health: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each probe whose own code failed."""
    for name, reading in health["probes"].items():
        failed = [finding["summary"] for finding in reading["findings"] if finding["name"] == BROKEN]
        for summary in failed:
            if summary.partition(":")[0] == BdbQuit.__name__:
                yield f"cannot debug probe {name!r}: its check has no terminal here; use check {name} --debug"
            else:
                yield f"probe {name!r} failed in its own code; add --traceback to see where"


def _refuse_debugging(chosen: Sequence[ProbeConfig]) -> None:
    """Check that a debugger can work.

    Raises:
        CommandError: It cannot: there are several probes, or there is no terminal.
    """
    if len(chosen) != 1:
        found = ", ".join(probe.name for probe in chosen) or "none"
        raise CommandError(f"cannot debug: one probe is needed, not {found}; name it", status=CANNOT_TELL)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        reason = "standard input or output is not a terminal, which a debugger needs"
        raise CommandError(
            f"cannot debug {chosen[0].name!r}: {reason}; run it on a terminal", status=CANNOT_TELL
        )


def _times(text: str) -> int:
    """Return *text* as a number of checks.

    Raises:
        ArgumentTypeError: It is not a whole number from 1 up.
    """
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} is not a whole number from 1 up")
    return int(text)


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
def _logging_from(level: str | None, mask: Callable[[str], str]) -> Iterator[None]:
    """Log *level* and above as text through *mask*; None disables the log."""
    if level is None:
        logging.getLogger().addHandler(logging.NullHandler())
        yield
        return
    drain = log.start(level, "text")
    drain.handler.mask = mask
    try:
        yield
    finally:
        drain.end()
