"""How late the event loop is while a model of 500 MB of small objects is fetched and loaded beside another.

The other side loads the same model in a thread of the process that has the loop. What unpickles small
objects keeps the interpreter's lock until it is done.
"""

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import door
from bench.callers import Caller
from bench.effort import Effort
from bench.figures import Spread, percentiles, ratios, spread
from bench.registry import BenchRegistry
from bench.server import DaemonServer
from bench.serving import serving
from bench.table import ResultTable, Row, at_most, of_rows
from bench.trainer import NAME
from bench.web import WebConnection, check_now, reload_now

SIZE = 500_000_000  # bytes
SAMPLE_SECONDS = 0.5  # between two looks whether the load has ended
PERIOD = 0.005  # between two questions
MOST_MOVED, MOST, MOST_P99 = 20.0, 25.0, 5.0  # ms
MOST_OVER_THREAD = 0.05
LAG_PROBE = f'[probes.lag]\nuse = "bench_lag"\nseconds = {SAMPLE_SECONDS}\n'
BUCKET = re.compile(r'^mlopsd_event_loop_lag_seconds_bucket\{le="([^"]+)"\} (\d+)', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Late:
    """Milliseconds by which an event loop was late, and that /livez took from when it was due."""

    lags: Sequence[float]
    answers: Sequence[float] = ()


@dataclass(frozen=True, slots=True)
class Loaded:
    """While it loads, and as long after that; *beat* bounds the max of the daemon's histogram, ms."""

    loading: Late
    idle: Late
    seconds: float = 0.0
    beat: float = 0.0


def run(effort: Effort, room: Path) -> Iterator[ResultTable]:
    """Load in the daemon and in a thread of another process, in turn; each starts afresh and fetches."""
    environment = door.lay_out(room)
    with BenchRegistry(room / "registry") as registry:
        small, large = registry.small(), registry.large(SIZE)
        ours, theirs = [], []
        for number in range(effort.rounds):
            registry.crown(small)
            with serving(room / f"{number}", registry, LAG_PROBE, environment) as daemon:
                ours.append(_load(daemon, registry, large))
            theirs.append(_load_in_thread(registry, small, large))
    title = f"A model of {SIZE / 1e6:.0f} MB of small objects loads beside one that serves"
    over = ratios(_greatest_lag(ours), _greatest_lag(theirs))
    compared = at_most("loop lag max, loading ÷ loading in its thread", over, MOST_OVER_THREAD)
    yield of_rows(title, [*_rows(ours), *_rows_of_threads(theirs), compared])


def _load(daemon: DaemonServer, registry: BenchRegistry, version: str) -> Loaded:
    daemon.wait_until_started()
    check_now(daemon.socket, "lag")
    before = _beats(daemon)
    registry.crown(version)
    loaded, took = threading.Event(), []

    def reload() -> None:
        try:
            took.append(reload_now(daemon.socket, "model", version))
        finally:
            loaded.set()

    threading.Thread(target=reload).start()
    loading = _sampled(daemon, loaded)
    greatest = _greatest(before, _beats(daemon))
    enough = threading.Event()
    threading.Timer(took[0], enough.set).start()
    return Loaded(loading, _sampled(daemon, enough), took[0], greatest)


def _sampled(daemon: DaemonServer, until: threading.Event) -> Late:
    """Sample the lag from within, and the time of the smallest request, until *until* is set."""
    caller = Caller(daemon.port, "/livez", PERIOD)
    caller.start()
    lags: list[float] = []
    while not lags or not until.is_set():
        lags += check_now(daemon.socket, "lag")["facts"]["lags"]
    return Late(_milliseconds(lags), _milliseconds(caller.end()))


def _load_in_thread(registry: BenchRegistry, first: str, second: str) -> Loaded:
    uris = [f"models:/{NAME}/{version}" for version in (first, second)]
    command = [sys.executable, "-m", "bench.threaded", *uris]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": registry.uri, "MLFLOW_DISABLE_TELEMETRY": "true"}
    done = subprocess.run(command, capture_output=True, check=True, env=environment)
    found = json.loads(done.stdout.splitlines()[-1])
    loading, idle = (Late(_milliseconds(found[when])) for when in ("loading", "idle"))
    return Loaded(loading, idle, found["seconds"])


def _beats(daemon: DaemonServer) -> dict[float, int]:
    """Read the daemon's own histogram of its lag: the beats that were late, by upper bound."""
    connection = WebConnection(daemon.port)
    try:
        page = connection.get("/metrics")[1].decode()
    finally:
        connection.close()
    return {float(bound): int(times) for bound, times in BUCKET.findall(page)}


def _greatest(before: dict[float, int], after: dict[float, int]) -> float:
    """Return the bound, in ms, of the highest bucket that gained between the two readings."""
    gained = {bound: times - before[bound] for bound, times in after.items()}
    return 1000 * min(bound for bound, times in gained.items() if times == max(gained.values()))


def _rows(rounds: Sequence[Loaded]) -> Iterator[Row]:
    yield at_most("from the reload until it served", spread((one.seconds for one in rounds), "s"))
    yield at_most("loop lag p99, idle", percentiles([one.idle.lags for one in rounds], 99))
    yield at_most("loop lag max, idle", percentiles([one.idle.lags for one in rounds], 100))
    yield at_most("loop lag p99, loading", percentiles([one.loading.lags for one in rounds], 99), MOST_P99)
    yield at_most("loop lag max, loading", _greatest_lag(rounds), MOST)
    yield at_most("loop lag max, loading less idle", _moved(rounds), MOST_MOVED)
    yield at_most("the daemon's own histogram: max at most", spread((one.beat for one in rounds), "ms"))
    for mark, percent in (("p99", 99), ("max", 100)):
        yield at_most(f"/livez {mark}, idle", percentiles([one.idle.answers for one in rounds], percent))
        yield at_most(
            f"/livez {mark}, loading", percentiles([one.loading.answers for one in rounds], percent)
        )


def _rows_of_threads(rounds: Sequence[Loaded]) -> Iterator[Row]:
    yield at_most("loading in the thread of a loop with MLflow", spread((one.seconds for one in rounds), "s"))
    yield at_most(
        "loop lag max, idle, of a loop with MLflow", percentiles([one.idle.lags for one in rounds], 100)
    )
    for mark, percent in (("p99", 99), ("max", 100)):
        lags = percentiles([one.loading.lags for one in rounds], percent)
        yield at_most(f"loop lag {mark}, loading in its thread", lags)


def _greatest_lag(rounds: Sequence[Loaded]) -> Spread:
    return percentiles([one.loading.lags for one in rounds], 100)


def _moved(rounds: Sequence[Loaded]) -> Spread:
    return spread((max(one.loading.lags) - max(one.idle.lags) for one in rounds), "ms")


def _milliseconds(seconds: Sequence[float]) -> list[float]:
    return [second * 1000 for second in seconds]
