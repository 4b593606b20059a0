"""What answers cost that health checks and scrapers ask for, beside FastAPI's, nginx's and node_exporter's.

Every server runs on one core and wrk on the other. Readings change at their intervals and requests are
counted all the while; nginx has the daemon's answers of the beginning as files.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from bench import door
from bench.cost import cpu_of_all
from bench.effort import Effort
from bench.figures import Spread, ratios, spread
from bench.server import Server
from bench.sides import (
    BARE,
    DETAILED,
    FASTAPI,
    HEALTH,
    HUGE,
    LARGE,
    METRICS,
    NGINX,
    NODE,
    OURS,
    SMALL,
    all_started,
    path_of,
    started_daemon,
)
from bench.table import ResultTable, Row, at_least, at_most, of_rows
from bench.web import AS_PROMETHEUS, lines_of
from bench.wrk import Wrk
from mlopsd.process.procfs import descendants

CONNECTIONS = (1, 16, 64)
WARMING = 1.0
MOST_P50_OVER_NGINX = 2.2
MOST_CPU_OVER_NODE, MOST_CPU_OVER_FASTAPI = 0.025, 0.01
MOST_P99_OVER_NODE = 0.15
LEAST_SCRAPES_OVER_NGINX = 0.17
LEAST_HEALTH_OVER_NGINX, LEAST_HEALTH_OVER_FASTAPI = 0.22, 2.0
MOST_GROWTH = 3.0


@dataclass(frozen=True, slots=True)
class AskedPath:
    """One path, asked over some connections; a page of about so many *lines*, 0 where that is no matter."""

    path: str
    lines: int
    connections: int

    @property
    def what(self) -> str:
        """In words."""
        return f"{self.path}, {self.lines} lines" if self.lines else self.path


@dataclass(frozen=True, slots=True)
class AskingRun:
    """One run: answers a second, milliseconds of each, microseconds of CPU that each took the server."""

    rate: float
    p50: float
    p99: float
    cpu: float
    failed: int
    answers: int


@dataclass(slots=True)
class Runs:
    """All runs by case and side, one a round, and in words what could not be measured."""

    reported: dict[tuple[AskedPath, str], list[AskingRun | None]] = field(default_factory=dict)
    missing: set[str] = field(default_factory=set)
    pages: dict[tuple[int, str], int] = field(default_factory=dict)

    def of(self, case: AskedPath, side: str) -> list[AskingRun]:
        """Those of one side in one case; none where it is missing, or gave no answer in one of them."""
        runs = self.reported.get((case, side), [])
        return [] if None in runs else [one for one in runs if one]


def run(effort: Effort, room: Path) -> Iterator[ResultTable | str]:
    """Compare the small and then the large page with each peer, and the huge one with the small."""
    environment, runs = door.lay_out(room), Runs()
    wrk = Wrk(room)
    for lines in (SMALL, LARGE):
        with ExitStack() as stack:
            sides = all_started(room / str(lines), lines, environment, stack, runs.missing)
            runs.pages |= {(lines, side): lines_of(server.port) for side, server in sides.items()}
            _measure(wrk, effort, list(_cases(lines)), sides, runs)
    with ExitStack() as stack:
        flat = {
            lines: started_daemon(room / f"flat{lines}", lines, environment, stack) for lines in (SMALL, HUGE)
        }
        runs.pages |= {(lines, OURS): lines_of(daemon.port) for lines, daemon in flat.items()}
        growth = [
            [_ask(wrk, effort, daemon, AskedPath(METRICS, lines, 16)) for lines, daemon in flat.items()]
            for _ in range(effort.rounds)
        ]
    yield from sorted(runs.missing)
    yield from _tables(runs)
    yield of_rows(
        f"GET /metrics with gzip as Prometheus asks for it, {_pages(runs, LARGE)}", list(_rows(runs))
    )
    yield of_rows("The page grows; 16 connections", list(_growth_rows(runs, growth)))


def _cases(lines: int) -> Iterator[AskedPath]:
    for connections in CONNECTIONS:
        if lines == SMALL:
            yield AskedPath(HEALTH, 0, connections)
            yield AskedPath(DETAILED, 0, connections)
        yield AskedPath(METRICS, lines, connections)


def _measure(
    wrk: Wrk, effort: Effort, cases: Sequence[AskedPath], sides: Mapping[str, Server], runs: Runs
) -> None:
    for side, server in sides.items():
        wrk.ask(server.port, path_of(side, METRICS), 1, WARMING, AS_PROMETHEUS)
    for number in range(effort.rounds):
        for case in cases:
            for side in _in_turn([side for side in sides if _takes_part(side, case)], number):
                reported = _ask(wrk, effort, sides[side], case, side)
                runs.reported.setdefault((case, side), []).append(reported)
                lines_of(sides[side].port)  # it is done with what wrk no longer waits for


def _in_turn(sides: list[str], number: int) -> list[str]:
    first = number % len(sides)
    return sides[first:] + sides[:first]


def _takes_part(side: str, case: AskedPath) -> bool:
    """node_exporter has no health, and at more connections its answers take seconds."""
    return side != NODE or (case.path == METRICS and case.connections == 1)


def _ask(wrk: Wrk, effort: Effort, server: Server, case: AskedPath, side: str = OURS) -> AskingRun | None:
    """One run; None if no answer came in the time."""
    pids = [server.pid, *descendants(server.pid)]
    headers = AS_PROMETHEUS if case.path == METRICS else {}
    used = cpu_of_all(pids)
    heard = wrk.ask(server.port, path_of(side, case.path), case.connections, effort.http_seconds, headers)
    used = cpu_of_all(pids) - used
    if not heard.answers:
        return None
    return AskingRun(
        rate=heard.answers / heard.seconds,
        p50=heard.p50 / 1000,
        p99=heard.p99 / 1000,
        cpu=used / heard.answers * 1e6,
        failed=heard.failed,
        answers=heard.answers,
    )


def _figures(runs: Sequence[AskingRun], what: str, unit: str = "") -> Spread:
    return spread((getattr(one, what) for one in runs), unit)


def _tables(runs: Runs) -> Iterator[ResultTable]:
    cases = [*dict.fromkeys(case for case, _ in runs.reported)]
    cases.sort(key=lambda case: (case.lines, case.path, case.connections))
    for title, what, unit in (
        ("answers a second", "rate", "/s"),
        ("p50", "p50", "ms"),
        ("p99", "p99", "ms"),
        ("CPU of all processes of the server an answer", "cpu", "µs"),
    ):
        peers = (FASTAPI, NGINX, BARE, NODE)
        head = ("what", "connections", f"ours, {unit}", *(f"÷ {peer}'s" for peer in peers))
        yield ResultTable(
            f"Asked over and over, {title}: median, and ratios as min / median / max",
            head,
            [_line(runs, case, what, peers) for case in cases],
        )


def _line(runs: Runs, case: AskedPath, what: str, peers: Sequence[str]) -> tuple[str, ...]:
    ours = _figures(runs.of(case, OURS), what)
    cells = [str(_ratio(runs, case, peer, what) or "") for peer in peers]
    return (case.what, str(case.connections), str(spread([ours.middle])), *cells)


def _ratio(runs: Runs, case: AskedPath, peer: str, what: str, side: str = OURS) -> Spread | None:
    """Round by round, *side*'s over the peer's; None where there is no peer."""
    if not (theirs := runs.of(case, peer)):
        return None
    return ratios(_figures(runs.of(case, side), what), _figures(theirs, what))


def _rows(runs: Runs) -> Iterator[Row]:
    one, many = AskedPath(METRICS, LARGE, 1), AskedPath(METRICS, LARGE, 16)
    health = AskedPath(HEALTH, 0, 16)
    wanted = (
        ("p50 ÷ nginx's, 1 connection", one, NGINX, "p50", at_most, MOST_P50_OVER_NGINX),
        ("CPU a scrape ÷ node_exporter's, 1 connection", one, NODE, "cpu", at_most, MOST_CPU_OVER_NODE),
        ("CPU a scrape ÷ FastAPI's, 1 connection", one, FASTAPI, "cpu", at_most, MOST_CPU_OVER_FASTAPI),
        ("p99 ÷ node_exporter's, 1 connection", one, NODE, "p99", at_most, MOST_P99_OVER_NODE),
        ("scrapes a second ÷ nginx's, 16", many, NGINX, "rate", at_least, LEAST_SCRAPES_OVER_NGINX),
        ("/health/ a second ÷ FastAPI's, 16", health, FASTAPI, "rate", at_least, LEAST_HEALTH_OVER_FASTAPI),
        ("/health/ a second ÷ nginx's, 16", health, NGINX, "rate", at_least, LEAST_HEALTH_OVER_NGINX),
    )
    for words, case, peer, what, judge, goal in wanted:
        ratio = _ratio(runs, case, peer, what)
        yield judge(words, ratio, goal) if ratio else Row(words, f"no {peer} here")
    for words, case in (("scrapes", many), ("/health/", health)):
        if limit := _ratio(runs, case, NGINX, "rate", BARE):
            yield at_most(f"{words} a second, bare aiohttp ÷ nginx's, 16", limit)
    every = [reported for one in runs.reported.values() for reported in one if reported]
    failed, asked = sum(reported.failed for reported in every), sum(reported.answers for reported in every)
    yield Row("requests that failed, every side", f"{failed} of {asked}", "0", failed == 0)


def _growth_rows(runs: Runs, growth: Sequence[Sequence[AskingRun | None]]) -> Iterator[Row]:
    small, huge = (spread((reported.cpu for one in growth if (reported := one[at])), "µs") for at in (0, 1))
    yield at_most(f"CPU a scrape, {runs.pages[SMALL, OURS]} lines", small)
    yield at_most(f"CPU a scrape, {runs.pages[HUGE, OURS]} lines", huge)
    yield at_most("CPU a scrape, the huge page ÷ the small", ratios(huge, small), MOST_GROWTH)


def _pages(runs: Runs, lines: int) -> str:
    return ", ".join(f"{side} {many} lines" for (of, side), many in runs.pages.items() if of == lines)
