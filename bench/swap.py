"""What 16 callers notice while the alias moves and the daemon swaps to the other version."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.effort import Effort
from bench.figures import percentiles, ratios, spread
from bench.registry import BenchRegistry
from bench.server import DaemonServer
from bench.serving import milliseconds, serving
from bench.table import ResultTable, Row, at_most, of_rows
from bench.traffic import Answered, RequestLoad
from bench.web import reload_now

CONNECTIONS = 16
AFTER_SECONDS = 1.0  # in which the old host drains and the new one warms up
USUAL = 2  # times as long as other cases: its p99 is what the swap is held against


@dataclass(frozen=True, slots=True)
class Swapped:
    """The answers to requests that were sent before the alias moved, and from then on."""

    usual: Sequence[Answered]
    meanwhile: Sequence[Answered]
    loading: float
    took: float


def run(effort: Effort, room: Path) -> Iterator[ResultTable]:
    """To and fro between two versions, one swap a round; only the first has to fetch."""
    with BenchRegistry(room / "registry") as registry:
        versions = [registry.small(), registry.small()]
        registry.crown(versions[0])
        with serving(room / "daemon", registry) as daemon:
            swaps = [
                _swap(daemon, registry, versions[(number + 1) % 2], effort.asking_seconds * USUAL)
                for number in range(effort.rounds)
            ]
    title = f"The alias moves under {CONNECTIONS} connections of 1 row: {effort.rounds} swaps"
    yield of_rows(title, list(_rows(swaps)))


def _swap(daemon: DaemonServer, registry: BenchRegistry, version: str, usual_seconds: float) -> Swapped:
    with RequestLoad(daemon.port, CONNECTIONS, 1) as traffic:
        time.sleep(usual_seconds)
        moved = time.perf_counter()
        registry.crown(version)
        loading = reload_now(daemon.socket, "model", version)
        time.sleep(AFTER_SECONDS)
        ended = time.perf_counter()
        heard = traffic.end()
    usual = [answer for answer in heard.answers if answer.began + answer.seconds <= moved]
    meanwhile = [answer for answer in heard.answers if answer.began + answer.seconds > moved]
    return Swapped(usual, meanwhile, loading, ended - moved)


def _rows(swaps: Sequence[Swapped]) -> Iterator[Row]:
    failed = sum(answer.code != 200 for swap in swaps for answer in (*swap.usual, *swap.meanwhile))
    asked = sum(len(swap.usual) + len(swap.meanwhile) for swap in swaps)
    yield Row("requests that failed", f"{failed} of {asked}", "0", failed == 0)
    yield at_most("from the reload until the other version served", spread((s.loading for s in swaps), "s"))
    usual = [milliseconds(swap.usual) for swap in swaps]
    meanwhile = [milliseconds(swap.meanwhile) for swap in swaps]
    for words, percent in (("p50", 50), ("p99", 99), ("longest", 100)):
        before, then = percentiles(usual, percent), percentiles(meanwhile, percent)
        yield at_most(f"{words}, usual", before)
        yield at_most(f"{words}, while it swaps", then)
        yield at_most(f"{words}, while it swaps ÷ usual", ratios(then, before))
    longest, p99 = percentiles(meanwhile, 100), percentiles(usual, 99)
    yield at_most("longest while it swaps ÷ usual p99", ratios(longest, p99))
