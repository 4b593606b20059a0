"""``python -m bench [--quick] [--rounds N] [NAME…]``: run benchmarks and print their tables."""

import contextlib
import os
import signal
import sys
import tempfile
import time
import traceback
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType

from bench import (
    asking,
    fetch,
    fleet,
    footprint,
    gpu,
    lag,
    load,
    neighbours,
    predictions,
    rest,
    scrape,
    start,
    swap,
)
from bench.bytecode import compile_everything
from bench.effort import FULL, QUICK, Effort
from bench.host import Company, described
from bench.server import Missing
from bench.table import ResultTable
from mlopsd.process.procfs import descendants

TOO_LONG = 4  # times what a section usually takes, and
AT_LEAST = 120.0  # seconds
DYING_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Section:
    """Benchmarks that belong together, and the seconds that they take on a calm machine.

    Attributes:
        before: whatever the rounds.
        each: more for a round of a full run.
        quick: of a quick run with one round.
    """

    run: Callable[[Effort, Path], Iterator[ResultTable | str]]
    before: float
    each: float
    quick: float

    def seconds(self, effort: Effort, *, is_quick: bool) -> float:
        """With *effort*, which is that of a quick run or of a full one."""
        return self.quick * effort.rounds if is_quick else self.before + self.each * effort.rounds


SECTIONS: Mapping[str, Section] = {
    "start": Section(start.run, 0, 20, 20),
    "http": Section(asking.run, 30, 90, 70),
    "memory": Section(footprint.run, 10, 22, 30),
    "scrape": Section(scrape.run, 3, 5, 8),
    "lag": Section(lag.run, 10, 66, 30),
    "rest": Section(rest.run, 30, 60, 60),
    "gpu": Section(gpu.run, 200, 20, 60),
    "predictions": Section(predictions.run, 40, 110, 160),
    "neighbours": Section(neighbours.run, 60, 70, 120),
    "swap": Section(swap.run, 30, 20, 45),
    "fetch": Section(fetch.run, 60, 170, 230),
    "load": Section(load.run, 30, 50, 80),
    "fleet": Section(fleet.run, 330, 0, 75),
}


class TooLong(Exception):
    """A section did not come to its end."""


def main() -> int:
    """Run what was asked for, or everything; a goal that is missed is a mark in a table, not a failure.

    Returns:
        1 if a section broke, and 0 otherwise.
    """
    arguments = _arguments()
    effort = QUICK if arguments.quick else FULL
    effort = replace(effort, rounds=arguments.rounds or effort.rounds)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)  # so that what was started is ended
    signal.signal(signal.SIGALRM, _interrupt)
    usual = {
        name: SECTIONS[name].seconds(effort, is_quick=arguments.quick) for name in arguments.names or SECTIONS
    }
    print(described())
    print("A goal is held against the median over the rounds.")
    print(f"This takes about {max(sum(usual.values()) / 60, 1):.0f} minutes.", flush=True)
    with tempfile.TemporaryDirectory(prefix="mlopsd-bench-") as room:
        try:
            compile_everything(Path(room, "first"))
            return max([_run(name, effort, Path(room, name), seconds) for name, seconds in usual.items()])
        finally:
            _end_what_is_left()


def _arguments() -> Namespace:
    parser = ArgumentParser(prog="python -m bench", description="What the daemon costs, as figures.")
    known = ", ".join(SECTIONS)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {known}; all if none")
    parser.add_argument(
        "--quick", action="store_true", help="one short round: too few to believe, enough to see"
    )
    parser.add_argument("--rounds", type=int, metavar="N", help="how often each comparison is made")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(SECTIONS):
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}; there are {known}")
    if arguments.rounds is not None and arguments.rounds < 1:
        parser.error("--rounds takes a number from 1 up")
    return arguments


def _run(name: str, effort: Effort, room: Path, usual: float) -> int:
    company, began, status = Company(), time.monotonic(), 0
    signal.setitimer(signal.ITIMER_REAL, TOO_LONG * usual + AT_LEAST)
    try:
        for table in SECTIONS[name].run(effort, room):
            print(f"\n{table}", flush=True)
    except Missing as error:
        print(f"\ncannot run {name}: {error}")
    except TooLong:
        print(f"\ncannot finish {name}: it took {TOO_LONG} times as long as usual; run it on a calm machine")
        status = 1
    except Exception:  # noqa: BLE001  # a section that breaks must not cost the others their figures
        print(f"\ncannot finish {name}: {traceback.format_exc()}")
        status = 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    print(f"({name}: {time.monotonic() - began:.0f} s; {company})", flush=True)
    return status


def _leave(number: int, _frame: FrameType | None) -> None:
    for one in (signal.SIGTERM, signal.SIGINT):
        signal.signal(one, signal.SIG_IGN)  # leaving takes a moment, and is not begun twice
    sys.exit(128 + number)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise TooLong


def _end_what_is_left() -> None:
    """Whatever was being started when it was time to leave, and wait for it, since it may write files."""
    left = list(descendants(os.getpid()))
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for pid in left:
        with contextlib.suppress(ChildProcessError):  # a child's child: what it came to is not ours to know
            os.waitpid(pid, 0)
    until = time.monotonic() + DYING_SECONDS
    while any(Path(f"/proc/{pid}").exists() for pid in left) and time.monotonic() < until:
        time.sleep(0.02)


if __name__ == "__main__":
    sys.exit(main())
