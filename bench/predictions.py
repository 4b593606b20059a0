"""POST /invocations beside ``mlflow models serve``, what /health/ does meanwhile, and the memory."""

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.callers import Caller
from bench.cost import Memory, memory
from bench.effort import Effort
from bench.figures import Spread, p99, percentiles, ratios, spread
from bench.kinds import kind
from bench.questions import JSON, body
from bench.registry import BenchRegistry
from bench.server import DaemonServer, ModelServer, Server
from bench.serving import ServingResult, ask, peer_serving, serving
from bench.table import ResultTable, Row, at_least, at_most, of_rows
from bench.traffic import RequestLoad
from bench.web import WebConnection, wait_until_open
from mlopsd.process.procfs import descendants
from tests.running import free_port

CONNECTIONS = (1, 16, 64)
ROWS = (1, 100, 10_000)
CASES = tuple((connections, rows) for rows in ROWS for connections in CONNECTIONS)
JUDGED = (16, 1)
LEAST_RATE_RATIO = 2.0
MOST_P99_RATIO = 0.5
MOST_OVER_IDLE = 2.0
WARMING = 1.0
AT_WORK = 2  # processes: a host and a client need as much
LONGER = 2  # times as long, for cases with many rows and for the health's p99


@dataclass(slots=True)
class Sides:
    """What was measured at both in one case, one of each a round."""

    ours: list[ServingResult] = field(default_factory=list)
    theirs: list[ServingResult] = field(default_factory=list)


@dataclass(slots=True)
class HealthTimes:
    """The milliseconds of /health/ in each round; *crowded* is with others at work, and no predictions."""

    idle: list[list[float]] = field(default_factory=list)
    crowded: list[list[float]] = field(default_factory=list)
    busy: list[list[float]] = field(default_factory=list)


def run(effort: Effort, room: Path) -> Iterator[ResultTable]:
    """Every case once a round, the two sides in turn, the first one taking turns as well."""
    with BenchRegistry(room / "registry") as registry:
        registry.crown(registry.small())
        with serving(room / "daemon", registry) as daemon, peer_serving(room / "peer", registry) as peer:
            _agree(daemon, peer)
            for server in (daemon, peer):
                ask(server, *JUDGED, WARMING)
            fresh = list(_memory(daemon, peer))
            sides: dict[tuple[int, int], Sides] = {case: Sides() for case in CASES}
            health = {"/health/": HealthTimes(), "/health of mlflow models serve": HealthTimes()}
            for number in range(effort.rounds):
                _measure_round(number, daemon, peer, effort.asking_seconds, sides)
                _measure_health(daemon, "/health/", effort.asking_seconds, health["/health/"])
                theirs = health["/health of mlflow models serve"]
                _measure_health(peer, "/health", effort.asking_seconds, theirs)
            loaded = list(_memory(daemon, peer))
        limit = _limit(room / "constant", effort.asking_seconds)
    yield from _tables(sides)
    yield of_rows("POST /invocations at 16 connections and 1 row", list(_rows(sides[JUDGED], limit)))
    yield of_rows("/health/ at 100/s, idle, and while 16 connections ask", list(_health_rows(health)))
    yield of_rows("Memory, before and after all that", [*fresh, *loaded])


def _measure_round(
    number: int,
    daemon: DaemonServer,
    peer: ModelServer,
    seconds: float,
    sides: Mapping[tuple[int, int], Sides],
) -> None:
    for (connections, rows), its in sides.items():
        long = seconds * (LONGER if rows == max(ROWS) else 1)
        pairs: list[tuple[Server, list[ServingResult]]] = [(daemon, its.ours), (peer, its.theirs)]
        for server, into in pairs if number % 2 == 0 else reversed(pairs):
            into.append(ask(server, connections, rows, long))


def _measure_health(server: Server, path: str, seconds: float, health: HealthTimes) -> None:
    connections, rows = JUDGED
    health.idle.append(_called(server, path, seconds * LONGER))
    with ExitStack() as working:
        for _ in range(AT_WORK):
            working.enter_context(_spinning())
        health.crowded.append(_called(server, path, seconds * LONGER))
    with RequestLoad(server.port, connections, rows) as traffic:
        health.busy.append(_called(server, path, seconds * LONGER))
        traffic.end()


@contextmanager
def _spinning() -> Iterator[None]:
    """Run a process that does nothing but use a core."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        try:
            yield
        finally:
            process.kill()


def _called(server: Server, path: str, seconds: float) -> list[float]:
    caller = Caller(server.port, path)
    caller.start()
    time.sleep(seconds)
    return [second * 1000 for second in caller.end()]


def _agree(daemon: DaemonServer, peer: ModelServer) -> None:
    """Both answer the same, or nothing here can be compared."""
    for rows in ROWS:
        assert _predicted(daemon, rows) == _predicted(peer, rows), rows


def _predicted(server: Server, rows: int) -> bytes:
    connection = WebConnection(server.port)
    try:
        status, answer = connection.post("/invocations", body(rows, 0), JSON)
        assert status == 200, answer
        return answer
    finally:
        connection.close()


@contextmanager
def _constant(room: Path) -> Iterator[Server]:
    room.mkdir(parents=True)
    port = free_port()
    command = [sys.executable, "-m", "bench.constant", str(port)]
    with Server(command, port, room / "log", {}) as server:
        wait_until_open(port)
        yield server


def _limit(room: Path, seconds: float) -> ServingResult:
    """Measure the client alone, against an answer that is ready."""
    with _constant(room) as server:
        return ask(server, *JUDGED, seconds)


def _tables(sides: Mapping[tuple[int, int], Sides]) -> Iterator[ResultTable]:
    yield ResultTable(
        "POST /invocations, answers a second: median of the rounds, and ours ÷ MLflow's",
        ("rows", "connections", "ours", "mlflow", "min / median / max", "failed", "mlflow's"),
        [_rate_line(case, its) for case, its in sides.items()],
    )
    yield ResultTable(
        "POST /invocations, milliseconds: median of the rounds, and ours ÷ MLflow's",
        ("rows", "connections", "p50", "mlflow", "min / median / max", "p99", "mlflow", "min / median / max"),
        [_time_line(case, its) for case, its in sides.items()],
    )
    yield ResultTable(
        "POST /invocations, CPU of all processes of the server, ms a request",
        ("rows", "connections", "ours", "mlflow", "min / median / max"),
        [_cpu_line(case, its) for case, its in sides.items()],
    )


def _rate_line(case: tuple[int, int], its: Sides) -> tuple[str, ...]:
    connections, rows = case
    failed = [str(sum(one.failed for one in side)) for side in (its.ours, its.theirs)]
    return (str(rows), str(connections), *_compared(_rates(its.ours), _rates(its.theirs)), *failed)


def _time_line(case: tuple[int, int], its: Sides) -> tuple[str, ...]:
    connections, rows = case
    compared = [_compared(_times(its.ours, mark), _times(its.theirs, mark)) for mark in (50, 99)]
    return (str(rows), str(connections), *compared[0], *compared[1])


def _cpu_line(case: tuple[int, int], its: Sides) -> tuple[str, ...]:
    connections, rows = case
    ours, theirs = (spread(one.cpu for one in side) for side in (its.ours, its.theirs))
    return (str(rows), str(connections), *_compared(ours, theirs))


def _compared(ours: Spread, theirs: Spread) -> tuple[str, ...]:
    middles = [spread([side.middle]) for side in (ours, theirs)]
    return (*map(str, middles), str(ratios(ours, theirs)))


def _rates(side: Sequence[ServingResult]) -> Spread:
    return spread((one.rate for one in side), "/s")


def _times(side: Sequence[ServingResult], percent: float) -> Spread:
    return percentiles((one.milliseconds for one in side), percent)


def _rows(its: Sides, limit: ServingResult) -> Iterator[Row]:
    ours, theirs = _rates(its.ours), _rates(its.theirs)
    yield at_most("answers a second", ours)
    yield at_most("answers a second, mlflow models serve", theirs)
    yield at_least("answers a second ÷ mlflow's", ratios(ours, theirs), LEAST_RATE_RATIO)
    ours, theirs = _times(its.ours, 99), _times(its.theirs, 99)
    yield at_most("p99", ours)
    yield at_most("p99, mlflow models serve", theirs)
    yield at_most("p99 ÷ mlflow's", ratios(ours, theirs), MOST_P99_RATIO)
    yield at_most("CPU of the client a request", spread((one.client for one in its.ours), "us"))
    yield at_most("answers a second where the answer is ready", spread([limit.rate], "/s"))


def _health_rows(health: Mapping[str, HealthTimes]) -> Iterator[Row]:
    for what, its in health.items():
        idle, busy = p99(its.idle), p99(its.busy)
        yield at_most(f"{what} p99, idle", idle)
        yield at_most(f"{what} p99, {AT_WORK} others at work", p99(its.crowded))
        yield at_most(f"{what} p99, asked by 16", busy)
        goal = MOST_OVER_IDLE if what == "/health/" else None
        yield at_most(f"{what} p99, asked by 16 ÷ idle", ratios(busy, idle), goal)


def _memory(*servers: Server) -> Iterator[Row]:
    for server in servers:
        for pid in (server.pid, *descendants(server.pid)):
            had: Memory = memory(pid)
            yield Row(f"RSS and PSS of the {kind(pid)}", f"{had.rss:.1f} and {had.pss:.1f} MiB")
