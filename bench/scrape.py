"""What one GET /metrics costs, back to back over one connection, beside node_exporter's."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.cost import cpu
from bench.effort import Effort
from bench.figures import Spread, percentile, ratios, spread
from bench.server import DaemonServer, NodeExporter
from bench.table import ResultTable, Row, at_most, of_rows
from bench.web import WebConnection, lines_of, wait_for_answer

MOST_CPU_RATIO = 0.12
WARMING = 10
WORDS = {"p50": "answer p50", "p99": "answer p99", "cpu": "CPU a scrape"}


@dataclass(frozen=True, slots=True)
class ScrapeTimes:
    """Milliseconds a scrape."""

    p50: float
    p99: float
    cpu: float


def run(effort: Effort, room: Path) -> Iterator[ResultTable]:
    """Ours and theirs in turn, each on a connection of its own."""
    with DaemonServer(room / "daemon") as daemon, NodeExporter(room / "peer") as peer:
        daemon.wait_until_started()
        wait_for_answer(peer.port, "/metrics")
        sides = [(server.pid, WebConnection(server.port)) for server in (daemon, peer)]
        pages = [lines_of(server.port) for server in (daemon, peer)]
        rounds = [
            [_measure(pid, connection, effort.scrapes) for pid, connection in sides]
            for _ in range(effort.rounds)
        ]
        title = (
            f"GET /metrics with gzip, {effort.scrapes} in a row: {pages[0]} samples, node_exporter {pages[1]}"
        )
        yield of_rows(title, list(_rows([one[0] for one in rounds], [one[1] for one in rounds])))


def _measure(pid: int, connection: WebConnection, scrapes: int) -> ScrapeTimes:
    for _ in range(WARMING):
        connection.scrape()
    before, seconds = cpu(pid), []
    for _ in range(scrapes):
        began = time.perf_counter()
        connection.scrape()
        seconds.append(time.perf_counter() - began)
    used = cpu(pid) - before
    return ScrapeTimes(percentile(seconds, 50) * 1000, percentile(seconds, 99) * 1000, used / scrapes * 1000)


def _rows(ours: Sequence[ScrapeTimes], theirs: Sequence[ScrapeTimes]) -> Iterator[Row]:
    for what, words in WORDS.items():
        our, their = _figures(ours, what), _figures(theirs, what)
        yield at_most(words, our)
        yield at_most(f"{words}, node_exporter", their)
        yield at_most(
            f"{words} ÷ node_exporter's", ratios(our, their), MOST_CPU_RATIO if what == "cpu" else None
        )


def _figures(scraped: Sequence[ScrapeTimes], what: str) -> Spread:
    return spread((getattr(one, what) for one in scraped), "ms")
