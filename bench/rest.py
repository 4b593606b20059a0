"""What the daemon uses when nothing is wrong, beside node_exporter, both scraped as Prometheus does."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.cost import Memory, cpu, cpu_of_all, descendants, memory
from bench.effort import Effort
from bench.figures import ratios, spread
from bench.server import Daemon, NodeExporter
from bench.table import Row, Table, at_most, of_rows
from bench.web import Connection, wait_for_answer

SCRAPE_INTERVAL = 15.0
SETTLING_SECONDS = 5.0
MOST_RSS = 55.0  # MiB
MOST_RATIO = 2.0


@dataclass(frozen=True, slots=True)
class Window:
    """Milliseconds of CPU a minute."""

    own: float
    children: float
    peer: float


def run(effort: Effort, room: Path) -> Iterator[Table]:
    """One window after the other over the same two processes, which run side by side."""
    with Daemon(room / "daemon") as daemon, NodeExporter(room / "peer") as peer:
        daemon.wait_until_started()
        wait_for_answer(peer.port, "/metrics")
        connections = [Connection(daemon.port), Connection(peer.port)]
        for connection in connections:
            connection.scrape()
        time.sleep(SETTLING_SECONDS)
        windows = [
            _measure(daemon.pid, peer.pid, connections, effort.rest_seconds) for _ in range(effort.rounds)
        ]
        children = [memory(pid) for pid in descendants(daemon.pid)]
        yield of_rows(
            f"At rest: the system probe at its defaults, scraped every {SCRAPE_INTERVAL:g} s, "
            f"{effort.rounds} windows of {effort.rest_seconds:g} s",
            list(_rows(windows, memory(daemon.pid), children, memory(peer.pid))),
        )


def _measure(ours: int, theirs: int, connections: Sequence[Connection], seconds: float) -> Window:
    before, children = _spent(ours, theirs)
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        for connection in connections:
            connection.scrape()
        time.sleep(min(SCRAPE_INTERVAL, left))
    after, children_after = _spent(ours, theirs)
    if children != children_after:
        raise RuntimeError("a process of a probe was started anew meanwhile; measure again")
    return Window(*((b - a) * 60_000 / seconds for a, b in zip(before, after, strict=True)))


def _spent(ours: int, theirs: int) -> tuple[tuple[float, float, float], list[int]]:
    children = sorted(descendants(ours))
    return (cpu(ours), cpu_of_all(children), cpu(theirs)), children


def _rows(windows: Sequence[Window], own: Memory, children: Sequence[Memory], peer: Memory) -> Iterator[Row]:
    alone = spread((window.own for window in windows), "ms/min")
    whole = spread((window.own + window.children for window in windows), "ms/min")
    theirs = spread((window.peer for window in windows), "ms/min")
    yield at_most("CPU of the daemon's own process", alone)
    yield at_most("CPU of its probe's process", spread((window.children for window in windows), "ms/min"))
    yield at_most("CPU of both", whole)
    yield at_most("CPU of node_exporter", theirs)
    yield at_most("CPU of both ÷ node_exporter's", ratios(whole, theirs), MOST_RATIO)
    yield at_most("RSS of the daemon's own process", spread([own.rss], "MiB"), MOST_RSS)
    yield at_most("PSS of the daemon's own process", spread([own.pss], "MiB"))
    for child in children:
        yield at_most("RSS of its probe's process", spread([child.rss], "MiB"))
        yield at_most("PSS of its probe's process", spread([child.pss], "MiB"))
    yield at_most("RSS of node_exporter", spread([peer.rss], "MiB"))
