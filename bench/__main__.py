"""``python -m bench [--quick] [NAME…]``: run benchmarks and print their tables."""

import signal
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from bench import gpu, lag, load, predictions, rest, scrape, start, swap
from bench.bytecode import compile_everything
from bench.effort import FULL, QUICK, Effort
from bench.host import Company, described
from bench.server import Missing
from bench.table import Table

BENCHMARKS: Mapping[str, Callable[[Effort, Path], Iterator[Table]]] = {
    "start": start.run,
    "scrape": scrape.run,
    "lag": lag.run,
    "rest": rest.run,
    "gpu": gpu.run,
    "predictions": predictions.run,
    "swap": swap.run,
    "load": load.run,
}


def main() -> int:
    """Run what was asked for, or everything; a goal that is missed is a mark in a table, not a failure."""
    parser = ArgumentParser(prog="python -m bench", description="What the daemon costs, as figures.")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"one of {', '.join(BENCHMARKS)}; all if none"
    )
    parser.add_argument(
        "--quick", action="store_true", help="one short round: too few to believe, enough to see"
    )
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    if unknown := set(arguments.names) - set(BENCHMARKS):
        parser.error(
            f"no benchmark is called {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}"
        )
    print(described())
    print("A goal is held against the median over the rounds.", flush=True)
    with tempfile.TemporaryDirectory(prefix="mlopsd-bench-") as room:
        compile_everything(Path(room, "first"))
        for name in arguments.names or BENCHMARKS:
            _run(name, QUICK if arguments.quick else FULL, Path(room, name))
    return 0


def _run(name: str, effort: Effort, room: Path) -> None:
    company, began = Company(), time.monotonic()
    try:
        tables = list(BENCHMARKS[name](effort, room))
    except Missing as error:
        print(f"\ncannot run {name}: {error}")
        return
    for table in tables:
        print(f"\n{table}")
    print(f"({name}: {time.monotonic() - began:.0f} s; {company})", flush=True)


if __name__ == "__main__":
    sys.exit(main())
