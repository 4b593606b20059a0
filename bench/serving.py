"""The daemon and MLflow's own server with the same model, and how each answers for a while."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.cost import cpu_of_all
from bench.registry import BenchRegistry
from bench.server import SYSTEM, DaemonServer, ModelServer, Server
from bench.traffic import Answered, RequestLoad
from bench.trainer import NAME
from bench.web import wait_for_answer
from mlopsd.process.procfs import descendants

LOADING_SECONDS = 180.0


@dataclass(frozen=True, slots=True)
class ServingResult:
    """What came of some seconds of asking.

    Attributes:
        rate: answers a second.
        milliseconds: of each.
        failed: how many were no 200.
        cpu: milliseconds that the server and its children used for each.
        client: microseconds that asking cost for each.
    """

    rate: float
    milliseconds: Sequence[float]
    failed: int
    cpu: float
    client: float


@contextmanager
def serving(
    room: Path, registry: BenchRegistry, probes: str = SYSTEM, environment: Mapping[str, str] | None = None
) -> Iterator[DaemonServer]:
    """Run a daemon that serves the champion of *registry* beside *probes*."""
    with DaemonServer(room, probes + registry.table(), environment) as daemon:
        wait_for_answer(daemon.port, "/ping", LOADING_SECONDS)
        yield daemon


@contextmanager
def peer_serving(room: Path, registry: BenchRegistry) -> Iterator[ModelServer]:
    """MLflow's own server of that champion."""
    with ModelServer(room, registry.uri, NAME) as peer:
        wait_for_answer(peer.port, "/ping", LOADING_SECONDS)
        yield peer


def ask(server: Server, connections: int, rows: int, seconds: float) -> ServingResult:
    """Ask *server* for *seconds*, and wait for what is in flight then; all of it counts."""
    pids = [server.pid, *descendants(server.pid)]
    used = cpu_of_all(pids)
    with RequestLoad(server.port, connections, rows) as traffic:
        time.sleep(seconds)
        heard = traffic.end()
    used = cpu_of_all(pids) - used
    answers = heard.answers
    whole = max(one.began + one.seconds for one in answers) - min(one.began for one in answers)
    return ServingResult(
        rate=(len(answers) - heard.failed) / whole,
        milliseconds=milliseconds(answers),
        failed=heard.failed,
        cpu=used / len(answers) * 1e3,
        client=heard.cpu / len(answers) * 1e6,
    )


def milliseconds(answers: Sequence[Answered]) -> list[float]:
    """How long each took."""
    return [answer.seconds * 1000 for answer in answers]
