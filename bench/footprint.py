"""How much memory a host gives for it, with few series and with many, beside FastAPI and node_exporter."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench import client_memory, door
from bench.cost import Memory, memory
from bench.effort import Effort
from bench.figures import ratios, spread
from bench.server import DaemonServer, Missing, NodeExporter, Server
from bench.sides import FASTAPI, LARGE, METRICS, NODE, OURS, SMALL, fastapi_of, nothing_beside, tables_of
from bench.table import ResultTable, Row, at_most, of_rows
from bench.web import WebConnection, wait_for_answer
from mlopsd.process.procfs import descendants

MOST_OVER_FASTAPI = 0.95


@dataclass(slots=True)
class Kept:
    """What each side had in each round, by its name; the daemon's children are a side of their own."""

    sides: dict[str, list[Memory]] = field(default_factory=dict)

    def add(self, side: str, had: Memory) -> None:
        """Of one round."""
        self.sides.setdefault(side, []).append(had)


def run(effort: Effort, room: Path) -> Iterator[ResultTable | str]:
    """Each side started anew in each round, scraped, and looked at."""
    environment, missing = door.lay_out(room), set[str]()
    for lines in (SMALL, LARGE):
        kept = Kept()
        for number in range(effort.rounds):
            place = room / f"{lines}-{number}"
            _look(kept, place, lines, environment, effort.scrapes)
            missing |= set(look_at_peers(kept, place, lines, effort.scrapes))
        title = f"Memory after {effort.scrapes} scrapes of about {lines} lines"
        yield of_rows(title, list(_rows(kept)))
    yield from sorted(missing)
    yield from client_memory.run(effort, room / "client")


def _look(kept: Kept, room: Path, lines: int, environment: Mapping[str, str], scrapes: int) -> None:
    with DaemonServer(room / "daemon", tables_of(lines), environment) as daemon:
        daemon.wait_until_started()
        _scrape(daemon, scrapes)
        kept.add(OURS, memory(daemon.pid))
        children = [memory(pid) for pid in descendants(daemon.pid)]
        kept.add("its probes' processes", Memory(sum(c.rss for c in children), sum(c.pss for c in children)))


def look_at_peers(kept: Kept, room: Path, lines: int, scrapes: int) -> Iterator[str]:
    """Add what each peer has to *kept*; a line for each that is not installed."""
    makers: dict[str, Callable[[], Server]] = {
        FASTAPI: lambda: fastapi_of(lines, room / "service"),
        NODE: lambda: NodeExporter(room / "node"),
    }
    for side, make in makers.items():
        try:
            with make() as server:
                wait_for_answer(server.port, METRICS)
                _scrape(server, scrapes)
                kept.add(side, memory(server.pid))
        except Missing as error:
            yield nothing_beside(side, error)


def _scrape(server: Server, scrapes: int) -> None:
    connection = WebConnection(server.port)
    for _ in range(scrapes):
        connection.scrape()
    connection.close()


def _rows(kept: Kept) -> Iterator[Row]:
    ours = spread((had.rss for had in kept.sides[OURS]), "MiB")
    yield at_most("RSS of the daemon's own process", ours)
    for side, rounds in kept.sides.items():
        if side != OURS:
            theirs = spread((had.rss for had in rounds), "MiB")
            yield at_most(f"RSS of {side}", theirs)
        if side in {FASTAPI, NODE}:
            goal = MOST_OVER_FASTAPI if side == FASTAPI else None
            yield at_most(f"RSS of the daemon's own process ÷ {side}'s", ratios(ours, theirs), goal)
    for side, rounds in kept.sides.items():
        yield at_most(f"PSS of {side}", spread((had.pss for had in rounds), "MiB"))
