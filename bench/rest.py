"""What the daemon uses when nothing is wrong, beside node_exporter, both scraped as Prometheus does.

All three probes at their defaults: the system, eight cards of the driver library that stands in for
NVIDIA's, and a model that serves and is not asked.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.cost import Memory, cpu, memory
from bench.effort import Effort
from bench.figures import ratios, spread
from bench.kinds import kind
from bench.registry import BenchRegistry
from bench.server import SYSTEM, DaemonServer, Missing, NodeExporter
from bench.serving import serving
from bench.table import ResultTable, Row, at_most, of_rows
from bench.web import WebConnection, wait_for_answer
from mlopsd.process.procfs import descendants
from mlopsd_probes.fake_nvml import build

SCRAPE_INTERVAL = 15.0
SETTLING_SECONDS = 5.0
MOST_RATIO = 2.0
CARDS = "dgx-a100-8"
OWN = "daemon's own process"
PEER = "node_exporter"


@dataclass(frozen=True, slots=True)
class CpuWindow:
    """Milliseconds of CPU a minute, by what the process is."""

    used: Mapping[str, float]

    @property
    def whole(self) -> float:
        """Of the daemon and all that it has started."""
        return sum(used for name, used in self.used.items() if name != PEER)


def run(effort: Effort, room: Path) -> Iterator[ResultTable | str]:
    """One window after the other over the same processes, which run side by side."""
    room.mkdir(parents=True)
    try:
        environment = build.environment(build.scenario(CARDS), room / "driver")
    except build.NoFake as error:
        raise Missing(str(error)) from error
    with BenchRegistry(room / "registry") as registry:
        registry.crown(registry.small())
        probes = f"{SYSTEM}[probes.gpu]\nexpected_count = 8\n"
        with serving(room / "daemon", registry, probes, environment) as daemon:
            yield from _beside_node_exporter(effort, room, daemon)


def _beside_node_exporter(effort: Effort, room: Path, daemon: DaemonServer) -> Iterator[ResultTable | str]:
    daemon.wait_until_started()
    try:
        with NodeExporter(room / "peer") as peer:
            wait_for_answer(peer.port, "/metrics")
            yield _rested(effort, daemon, peer)
    except Missing as error:
        yield f"nothing beside {PEER}: {error}"
        yield _rested(effort, daemon, None)


def _rested(effort: Effort, daemon: DaemonServer, peer: NodeExporter | None) -> ResultTable:
    servers = [daemon, peer] if peer else [daemon]
    connections = [WebConnection(server.port) for server in servers]
    for connection in connections:
        connection.scrape()
    time.sleep(SETTLING_SECONDS)
    pids = {pid: kind(pid) for pid in (daemon.pid, *descendants(daemon.pid))}
    pids |= {peer.pid: PEER} if peer else {}
    windows = [_measure(pids, daemon.pid, connections, effort.rest_seconds) for _ in range(effort.rounds)]
    return of_rows(
        f"At rest: three probes at their defaults, 8 fake cards, scraped every {SCRAPE_INTERVAL:g} s, "
        f"{effort.rounds} windows of {effort.rest_seconds:g} s",
        list(_rows(windows, {name: memory(pid) for pid, name in pids.items()})),
    )


def _measure(
    pids: Mapping[int, str], daemon: int, connections: Sequence[WebConnection], seconds: float
) -> CpuWindow:
    before = {pid: cpu(pid) for pid in pids}
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        for connection in connections:
            connection.scrape()
        time.sleep(min(SCRAPE_INTERVAL, left))
    if not set(descendants(daemon)) <= pids.keys():
        raise RuntimeError("a process of a probe was started anew meanwhile; measure again")
    return CpuWindow({name: (cpu(pid) - before[pid]) * 60_000 / seconds for pid, name in pids.items()})


def _rows(windows: Sequence[CpuWindow], memories: Mapping[str, Memory]) -> Iterator[Row]:
    for name in windows[0].used:
        yield at_most(f"CPU, {name}", spread((window.used[name] for window in windows), "ms/min"))
    whole = spread((window.whole for window in windows), "ms/min")
    yield at_most("CPU of the daemon with all its processes", whole)
    if PEER in windows[0].used:
        theirs = spread((window.used[PEER] for window in windows), "ms/min")
        yield at_most("CPU of all its processes ÷ node_exporter's", ratios(whole, theirs), MOST_RATIO)
    for name, had in memories.items():
        yield Row(f"RSS and PSS, {name}", f"{had.rss:.1f} and {had.pss:.1f} MiB")
