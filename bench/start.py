"""How soon the daemon answers, knows, is rid of what hangs, and is gone with all that it started."""

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench import door
from bench.cost import cpu
from bench.effort import Effort
from bench.figures import ratios, spread
from bench.peers.service import Service
from bench.server import SYSTEM, DaemonServer, Missing
from bench.table import ResultTable, Row, at_most, of_rows
from bench.web import check_now, wait_for_answer
from mlopsd.process import procfs

MOST_OVER_FASTAPI = 0.8
MOST_TO_VERDICT = 1.5
MOST_TO_STOP = 2.0
MOST_BEYOND_TIMEOUT = 50.0  # ms
HUNG = 8
TIMEOUT = 1.0
PLACES = ("process", "thread")
DYING_SECONDS = 2.0  # for a child to see that its parent is gone


@dataclass(frozen=True, slots=True)
class Life:
    """Seconds from the start of the process, and from SIGTERM; *cpu* is its own, at its first answer."""

    answers: float
    cpu: float
    knows: float
    ends: float


@dataclass(slots=True)
class Ends:
    """Seconds that stopping took with every probe hung, and the processes that outlived their daemon."""

    in_processes: list[float] = field(default_factory=list)
    in_threads: list[float] = field(default_factory=list)
    started: int = 0
    left: int = 0


def run(effort: Effort, room: Path) -> Iterator[ResultTable | str]:
    """Time a plain life and the peer's, a hung check, and ends with every probe hung, in turn."""
    environment = door.lay_out(room)
    lives, theirs, over, ends = [], [], [], Ends()
    missing = ""
    for number in range(effort.rounds):
        lives.append(_live(room / f"{number}-plain"))
        try:
            theirs.append(_peer_answers(room / f"{number}-peer"))
        except Missing as error:
            missing = f"nothing beside FastAPI: {error}"
        over += [_beyond_timeout(room / f"{number}-{place}", place, environment) for place in PLACES]
        ends.in_processes.append(_stop_hung(room / f"{number}-processes", "process", environment, ends))
        ends.in_threads.append(_stop_hung(room / f"{number}-threads", "thread", environment, ends))
        _kill_hung(room / f"{number}-killed", environment, ends)
    if missing:
        yield missing
    beyond = at_most(
        f"a hung check is over after its timeout of {TIMEOUT:g} s and",
        spread((seconds * 1000 for seconds in over), "ms"),
        MOST_BEYOND_TIMEOUT,
    )
    yield of_rows("Start and stop", [*_life_rows(lives, theirs), beyond, *_end_rows(ends)])


def _life_rows(lives: list[Life], theirs: list[float]) -> Iterator[Row]:
    answers = spread((life.answers for life in lives), "s")
    yield at_most("start to the first 200 of /livez", answers)
    if theirs:
        peer = spread(theirs, "s")
        yield at_most("start to FastAPI's first 200", peer)
        yield at_most("first answer ÷ FastAPI's", ratios(answers, peer), MOST_OVER_FASTAPI)
    yield at_most("CPU of the daemon's own process until then", spread((life.cpu for life in lives), "s"))
    knows = spread((life.knows for life in lives), "s")
    yield at_most("start to a verdict, 200 of /health/", knows, MOST_TO_VERDICT)
    yield at_most("SIGTERM to the end", spread((life.ends for life in lives), "s"), MOST_TO_STOP)


def _end_rows(ends: Ends) -> Iterator[Row]:
    yield at_most(f"SIGTERM to the end, {HUNG} hung processes", spread(ends.in_processes, "s"), MOST_TO_STOP)
    yield at_most(f"SIGTERM to the end, {HUNG} hung threads", spread(ends.in_threads, "s"), MOST_TO_STOP)
    left = f"{ends.left} of {ends.started}"
    yield Row("processes that outlive the daemon, stopped or killed", left, "0", ends.left == 0)


def _live(room: Path) -> Life:
    with DaemonServer(room, SYSTEM) as daemon:
        answers = wait_for_answer(daemon.port, "/livez") - daemon.began
        used = cpu(daemon.pid)
        knows = wait_for_answer(daemon.port, "/health/") - daemon.began
        daemon.wait_until_started()
        return Life(answers, used, knows, daemon.stop())


def _peer_answers(room: Path) -> float:
    with Service(room) as peer:
        return wait_for_answer(peer.port, "/livez") - peer.began


def _beyond_timeout(room: Path, place: str, environment: Mapping[str, str]) -> float:
    """Seconds from the demand for a check that hangs to its reading, less the check's timeout."""
    table = door.table("hung", "hangs_when_asked_again", place)
    with DaemonServer(room, f"{table}interval = 3600\ntimeout = {TIMEOUT}\n", environment) as daemon:
        daemon.wait_until_started()
        began = time.perf_counter()
        reading = check_now(daemon.socket, "hung")
        took = time.perf_counter() - began
        assert reading["status"] == "unknown", reading
        return took - TIMEOUT


def _hung(room: Path, place: str, environment: Mapping[str, str]) -> DaemonServer:
    tables = "".join(f"{door.table(f'hung{at}', 'hangs', place)}timeout = 30\n" for at in range(HUNG))
    return DaemonServer(room, tables, environment)


def _stop_hung(room: Path, place: str, environment: Mapping[str, str], ends: Ends) -> float:
    """Seconds to stop while every call hangs; the last one began half a second after the start."""
    with _hung(room, place, environment) as daemon:
        wait_for_answer(daemon.port, "/livez")
        time.sleep(2.5)
        children = _alive(procfs.descendants(daemon.pid))
        seconds = daemon.stop()
        _count_left(children, ends)
        return seconds


def _kill_hung(room: Path, environment: Mapping[str, str], ends: Ends) -> None:
    with _hung(room, "process", environment) as daemon:
        wait_for_answer(daemon.port, "/livez")
        time.sleep(2.5)
        children = _alive(procfs.descendants(daemon.pid))
        daemon.kill()
        _count_left(children, ends)


def _count_left(children: set[tuple[int, int]], ends: Ends) -> None:
    until = time.monotonic() + DYING_SECONDS
    while (left := children & _alive(pid for pid, _ in children)) and time.monotonic() < until:
        time.sleep(0.02)
    ends.started += len(children)
    ends.left += len(left)


def _alive(pids: Iterable[int]) -> set[tuple[int, int]]:
    """Those of *pids* that run, each with its start, for numbers come again; a zombie does not run."""
    found = map(procfs.child, pids)
    return {(child.pid, child.started) for child in found if child is not None and child.state != "Z"}
