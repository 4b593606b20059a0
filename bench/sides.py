"""The daemon and who is measured beside it, each with a page of metrics of about the same size."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

from bench.cores import SERVERS, on_core
from bench.peers.bare import Bare
from bench.peers.nginx import Nginx, place
from bench.peers.service import Service
from bench.server import SYSTEM, DaemonServer, Missing, NodeExporter, Server
from bench.web import WebConnection, wait_for_answer

OURS, FASTAPI, NGINX, NODE, BARE = "ours", "FastAPI", "nginx", "node_exporter", "bare aiohttp"
HEALTH, DETAILED, METRICS = "/health/", "/health/detailed", "/metrics"
OWN_LINES = {OURS: 180, FASTAPI: 90}  # of a page without the series that are added
SMALL, LARGE, HUGE = 200, 2_000, 20_000  # lines
MOST_OF_ONE_PROBE = 10_000  # samples in a reading


def tables_of(lines: int) -> str:
    """Return the configuration of a daemon with a page of *lines*: the system probe and probes of series."""
    left, tables = lines - OWN_LINES[OURS], SYSTEM
    number = 0
    while left > 0:
        some = min(left, MOST_OF_ONE_PROBE)
        tables += f'[probes.series{number}]\nuse = "bench_series"\nnumber = {some}\n'
        left, number = left - some, number + 1
    return tables


def path_of(side: str, path: str) -> str:
    """Where *side* has the page of *path*."""
    return place(path) if side == NGINX else path


def fastapi_of(lines: int, room: Path) -> Service:
    """Return the service beside the daemon, with a page of *lines*."""
    return Service(room, lines - OWN_LINES[FASTAPI])


def started_daemon(room: Path, lines: int, environment: Mapping[str, str], stack: ExitStack) -> DaemonServer:
    """Start a daemon with a page of *lines*, on the servers' core, until *stack* is left."""
    with on_core(SERVERS):
        daemon = DaemonServer(room, tables_of(lines), environment)
    stack.enter_context(daemon)
    daemon.wait_until_started()
    wait_for_answer(daemon.port, HEALTH)
    return daemon


def all_started(
    room: Path, lines: int, environment: Mapping[str, str], stack: ExitStack, missing: set[str]
) -> dict[str, Server]:
    """Start the daemon and each installed peer until *stack* is left; add the other peers to *missing*."""
    daemon = started_daemon(room / "daemon", lines, environment, stack)
    makers: dict[str, Callable[[], Server]] = {
        FASTAPI: lambda: fastapi_of(lines, room / "service"),
        NGINX: lambda: Nginx(room / "nginx", *_pages_of(daemon)),
        BARE: lambda: Bare(room / "bare", *_pages_of(daemon)),
        NODE: lambda: NodeExporter(room / "node"),
    }
    sides: dict[str, Server] = {OURS: daemon}
    for side, make in makers.items():
        try:
            with on_core(SERVERS):
                sides[side] = stack.enter_context(make())
        except Missing as error:
            missing.add(nothing_beside(side, error))
    for side, server in sides.items():
        wait_for_answer(server.port, path_of(side, METRICS))
    return sides


def nothing_beside(side: str, error: Missing) -> str:
    """Return a line for a figure that cannot be had."""
    return f"nothing beside {side}: {error}"


def _pages_of(daemon: DaemonServer) -> tuple[Mapping[str, bytes], Mapping[str, bytes]]:
    """Its answers by their path, and those of them that it packs, packed."""
    connection = WebConnection(daemon.port)
    pages = {path: connection.get(path)[1] for path in (HEALTH, DETAILED, METRICS)}
    packed = {METRICS: connection.scrape()}
    connection.close()
    return pages, packed
