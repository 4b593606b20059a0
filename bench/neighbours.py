"""Small requests beside large ones, here and at ``mlflow models serve``: who waits for whom."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bench.effort import Effort
from bench.figures import percentiles, ratios, spread
from bench.registry import BenchRegistry
from bench.server import Server
from bench.serving import milliseconds, peer_serving, serving
from bench.table import ResultTable, Row, at_least, at_most, of_rows
from bench.traffic import RequestLoad

LARGE = 4_000  # rows of one request, which take 40 s alone
SMALL_CALLERS = 4
SECONDS = 12  # times as long as a usual case: the first large request must have taken its second
LEAST_RATIO = 1.0


@dataclass(slots=True)
class Neighbours:
    """The small requests of each round: answers a second, and the milliseconds of each."""

    alone: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    times: list[list[float]] = field(default_factory=list)


def run(effort: Effort, room: Path) -> Iterator[ResultTable]:
    """Measure the two sides in turn."""
    ours, theirs = Neighbours(), Neighbours()
    seconds = effort.asking_seconds
    with BenchRegistry(room / "registry") as registry:
        registry.crown(registry.slow())
        with serving(room / "daemon", registry) as daemon, peer_serving(room / "peer", registry) as peer:
            for _ in range(effort.rounds):
                for server, found in ((daemon, ours), (peer, theirs)):
                    _measure(server, seconds, found)
    title = f"{SMALL_CALLERS} callers with one row, alone and beside one with {LARGE} rows, 10 ms each"
    yield of_rows(title, list(_rows(ours, theirs)))


def _measure(server: Server, seconds: float, found: Neighbours) -> None:
    rate, _ = _ask(server, seconds)
    found.alone.append(rate)
    with RequestLoad(server.port, 1, LARGE):
        time.sleep(1)
        rate, times = _ask(server, seconds * SECONDS)
        found.rates.append(rate)
        found.times.append(times)


def _ask(server: Server, seconds: float) -> tuple[float, list[float]]:
    """Return the answers a second to small requests, and the milliseconds of each."""
    with RequestLoad(server.port, SMALL_CALLERS, 1) as traffic:
        time.sleep(seconds)
        heard = traffic.end()
    good = [one for one in heard.answers if one.code == 200]
    whole = max(one.began + one.seconds for one in heard.answers) - min(one.began for one in heard.answers)
    return len(good) / whole, milliseconds(good)


def _rows(ours: Neighbours, theirs: Neighbours) -> Iterator[Row]:
    for what, found in (("", ours), (", mlflow models serve", theirs)):
        yield at_most(f"answers a second, alone{what}", spread(found.alone, "/s"))
        yield at_most(f"answers a second, beside it{what}", spread(found.rates, "/s"))
        yield at_most(f"p99, beside it{what}", percentiles(found.times, 99))
    beside = ratios(spread(ours.rates, "/s"), spread(theirs.rates, "/s"))
    yield at_least("answers a second beside it ÷ mlflow's", beside, LEAST_RATIO)
