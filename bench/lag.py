"""How late the daemon's event loop is while probes hang, crash and hog: in processes, and in its threads."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench import door
from bench.callers import Caller
from bench.effort import Effort
from bench.figures import longest, p99, percentile, ratios
from bench.server import DaemonServer
from bench.table import ResultTable, Row, at_most, of_rows
from bench.web import check_now

SURVIVED = ("hangs", "hogs", "holds", "prints")  # by a daemon that runs them in a thread
DEADLY = ("exits", "segfaults")
SECONDS = 3.0  # of sampling in each case of a round
BUCKETS = (1, 2, 5, 10, 25, 50, 100, 250, 500)  # ms
MOST_P99, MOST = 5.0, 25.0  # ms
MOST_OVER_IDLE = 4.0
MOST_OVER_THREADS = 0.05


@dataclass(frozen=True, slots=True)
class TroubleCase:
    """Troubles at the same time in the same kind of place."""

    place: str
    troubles: tuple[str, ...]
    label: str

    def tables(self) -> str:
        """Return the configuration: the troubles, and the probe that measures."""
        tables = [door.table(name, name, self.place) for name in self.troubles]
        return "".join([f'[probes.lag]\nuse = "bench_lag"\nseconds = {SECONDS}\n', *tables])


NOTHING = TroubleCase("-", (), "nothing")
ALL_IN_PROCESSES = TroubleCase("process", SURVIVED + DEADLY, "all six, in processes")
ALL_IN_THREADS = TroubleCase("thread", SURVIVED, "the four, in threads")


@dataclass(slots=True)
class LagSamples:
    """The milliseconds that one case cost, a list a round."""

    lags: list[list[float]] = field(default_factory=list)
    answers: list[list[float]] = field(default_factory=list)


def run(effort: Effort, room: Path) -> Iterator[ResultTable]:
    """Every case once a round, in turn."""
    environment = door.lay_out(room)
    seen: dict[TroubleCase, LagSamples] = {case: LagSamples() for case in _cases(effort)}
    for number in range(effort.rounds):
        for case, its in seen.items():
            _measure(case, room / f"{number}-{case.label}", environment, its)
    yield _histogram("Event loop lag: how many 5 ms sleeps were late by up to … ms, all rounds", seen, "lags")
    yield _histogram(
        "GET /health/ at 100/s: how many answers took up to … ms from when they were due", seen, "answers"
    )
    yield of_rows("Event loop and /health/ with every trouble at a time", list(_rows(seen)))
    yield of_rows("What ends a daemon that has it in a thread", list(_deaths(room, environment)))


def _cases(effort: Effort) -> Iterator[TroubleCase]:
    yield NOTHING
    yield ALL_IN_PROCESSES
    yield ALL_IN_THREADS
    if effort.each_trouble:
        for trouble in SURVIVED:
            for place, where in (("process", "a process"), ("thread", "a thread")):
                yield TroubleCase(place, (trouble,), f"{trouble}, in {where}")
        yield TroubleCase("process", DEADLY, "exits and segfaults, in processes")


def _measure(case: TroubleCase, room: Path, environment: Mapping[str, str], seen: LagSamples) -> None:
    with DaemonServer(room, case.tables(), environment) as daemon:
        daemon.wait_until_started()
        caller = Caller(daemon.port)
        caller.start()
        reading = check_now(daemon.socket, "lag")
        seen.answers.append([second * 1000 for second in caller.end()])
    seen.lags.append([second * 1000 for second in reading["facts"]["lags"]])


def _histogram(title: str, seen: Mapping[TroubleCase, LagSamples], what: str) -> ResultTable:
    head = ("case", *map(str, BUCKETS), "more", "p50", "p99", "max")
    lines = []
    for case, its in seen.items():
        values = [value for one in getattr(its, what) for value in one]
        marks = (percentile(values, 50), percentile(values, 99), max(values))
        lines.append((case.label, *_counts(values), *(f"{mark:.1f}" for mark in marks)))
    return ResultTable(title, head, lines)


def _counts(values: list[float]) -> Iterator[str]:
    below = 0
    for bound in BUCKETS:
        count = sum(value <= bound for value in values)
        yield str(count - below)
        below = count
    yield str(len(values) - below)


def _rows(seen: Mapping[TroubleCase, LagSamples]) -> Iterator[Row]:
    for case in (NOTHING, ALL_IN_PROCESSES, ALL_IN_THREADS):
        judged = case is ALL_IN_PROCESSES
        lags = seen[case].lags
        yield at_most(f"loop lag p99, {case.label}", p99(lags), MOST_P99 if judged else None)
        yield at_most(f"loop lag max, {case.label}", longest(lags), MOST if judged else None)
    gained = ratios(longest(seen[ALL_IN_PROCESSES].lags), longest(seen[ALL_IN_THREADS].lags))
    yield at_most("loop lag max, processes ÷ threads", gained, MOST_OVER_THREADS)
    idle = p99(seen[NOTHING].answers)
    for case in (NOTHING, ALL_IN_PROCESSES, ALL_IN_THREADS):
        goal = MOST_OVER_IDLE * idle.middle if case is ALL_IN_PROCESSES else None
        yield at_most(f"/health/ p99, {case.label}", p99(seen[case].answers), goal)


def _deaths(room: Path, environment: Mapping[str, str]) -> Iterator[Row]:
    for trouble in DEADLY:
        for place in ("thread", "process"):
            with DaemonServer(
                room / f"{trouble}-{place}", door.table("t", trouble, place), environment
            ) as daemon:
                status = daemon.ended(5 if place == "thread" else 3)
            met = status is None if place == "process" else None
            goal = "goes on" if place == "process" else ""
            yield Row(f"{trouble}, in a {place}", _output(status), goal, met)


def _output(status: int | None) -> str:
    if status is None:
        return "the daemon goes on"
    how = f"signal {-status}" if status < 0 else f"exit status {status}"
    return f"the daemon is gone: {how}"
