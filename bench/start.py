"""How soon the daemon answers, knows, and is gone."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import door
from bench.cost import cpu
from bench.effort import Effort
from bench.figures import spread
from bench.server import SYSTEM, Daemon
from bench.table import Row, Table, at_most, of_rows
from bench.web import wait_for_answer

MOST_TO_VERDICT = 1.5
MOST_TO_STOP = 2.0
HUNG = 8


@dataclass(frozen=True, slots=True)
class Life:
    """Seconds from the start of the process, and from SIGTERM; *cpu* is its own, at its first answer."""

    answers: float
    cpu: float
    knows: float
    ends: float


def run(effort: Effort, room: Path) -> Iterator[Table]:
    """A plain life, and ends with every probe hung, in turn."""
    environment = door.lay_out(room)
    lives, in_processes, in_threads = [], [], []
    for number in range(effort.rounds):
        lives.append(_live(room / f"{number}-plain"))
        in_processes.append(_stop_hung(room / f"{number}-processes", "process", environment))
        in_threads.append(_stop_hung(room / f"{number}-threads", "thread", environment))
    rows = list(_rows(lives))
    rows += [
        at_most(f"the same, {HUNG} hung processes", spread(in_processes, "s"), MOST_TO_STOP),
        at_most(f"the same, {HUNG} hung threads", spread(in_threads, "s"), MOST_TO_STOP),
    ]
    yield of_rows("Start and stop", rows)


def _rows(lives: Sequence[Life]) -> Iterator[Row]:
    yield at_most("start to the first 200 of /livez", spread((life.answers for life in lives), "s"))
    yield at_most("CPU of the daemon's own process until then", spread((life.cpu for life in lives), "s"))
    knows = spread((life.knows for life in lives), "s")
    yield at_most("start to a verdict, 200 of /health/", knows, MOST_TO_VERDICT)
    yield at_most("SIGTERM to the end", spread((life.ends for life in lives), "s"), MOST_TO_STOP)


def _live(room: Path) -> Life:
    with Daemon(room, SYSTEM) as daemon:
        answers = wait_for_answer(daemon.port, "/livez") - daemon.began
        used = cpu(daemon.pid)
        knows = wait_for_answer(daemon.port, "/health/") - daemon.began
        daemon.wait_until_started()
        return Life(answers, used, knows, daemon.stop())


def _stop_hung(room: Path, place: str, environment: Mapping[str, str]) -> float:
    """Seconds to stop while every call hangs; the last one began half a second after the start."""
    tables = "".join(f"{door.table(f'hung{at}', 'hangs', place)}timeout = 30\n" for at in range(HUNG))
    with Daemon(room, tables, environment) as daemon:
        wait_for_answer(daemon.port, "/livez")
        time.sleep(2.5)
        return daemon.stop()
