"""A real Prometheus that scrapes a fleet of daemons every second, and node_exporters before and after.

The daemons are as an operator starts them, ``mlopsd run`` with the system probe at its defaults, each with
the process of its probe; nothing of them is left out.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench.cost import cpu, cpu_of_all, memory
from bench.door import ROOT
from bench.effort import Effort
from bench.figures import p99, percentiles, ratios, spread
from bench.prometheus import Prometheus
from bench.server import DaemonServer, Missing, NodeExporter, Server
from bench.table import ResultTable, Row, at_most, of_rows
from bench.web import lines_of, wait_for_answer
from mlopsd.process.procfs import descendants

INTERVAL = 1.0
SETTLING_SECONDS = 5.0
CATCHING_UP_SECONDS = 15.0
AT_A_TIME = 4  # that are started together
BESIDE = 6  # a node_exporter's window is that part of the daemons'
OF_PROMETHEUS = "up|scrape_.*|ALERTS.*|.*:.*"  # names of the series that it makes itself, and that rules do
MOST_P99 = 20.0  # ms
MOST_OVER_NODE = 0.12
MEBIBYTES_EACH = 60  # PSS of a daemon and its probe's process
RULES = ROOT / "deploy" / "prometheus"


@dataclass(frozen=True, slots=True)
class FleetScrapes:
    """What a Prometheus saw in one window.

    Attributes:
        due: scrapes that fell into it.
        good: those that were made and succeeded.
        milliseconds: of each.
        cpu: milliseconds of the targets, children included, for each.
        own: the same without children.
        whole: how many targets have every series in it that their page has.
        samples: that came from one target in one scrape.
        cores: that Prometheus itself used.
        rss: of Prometheus, MiB.
        rules: loaded, and of those the ones that could not be evaluated.
    """

    targets: int
    due: int
    good: int
    milliseconds: Sequence[float]
    cpu: float
    own: float
    whole: int
    samples: int
    cores: float
    rss: float
    rules: tuple[int, int]


def run(effort: Effort, room: Path) -> Iterator[ResultTable | str]:
    """node_exporters for a while, the daemons, and node_exporters again.

    Raises:
        Missing: there is no Prometheus, or not the memory for so many.
    """
    needed, free = effort.fleet * MEBIBYTES_EACH, _available()
    if needed > free:
        raise Missing(f"{effort.fleet} daemons take {needed} MiB and {free:.0f} are free; end something")
    window = effort.fleet_seconds / BESIDE
    try:
        theirs = [_scrape_nodes(room / "before", effort.fleet // 2, window)]
    except Missing as error:
        if "node_exporter" not in str(error):
            raise
        theirs = []
        yield f"nothing beside node_exporter: {error}"
    ours = scrape_daemons(room / "daemons", effort.fleet, effort.fleet_seconds)
    if theirs:
        theirs.append(_scrape_nodes(room / "after", effort.fleet // 2, window))
    title = (
        f"One Prometheus scrapes {effort.fleet} daemons every {INTERVAL:g} s for {effort.fleet_seconds:g} s"
    )
    yield of_rows(title, list(_rows(ours, theirs)))


def _available() -> float:
    for line in Path("/proc/meminfo").read_text("ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) / 1024
    return float("inf")


def rule_files() -> list[Path]:
    """Those of `RULES` that hold rules, and not tests of them."""
    return [path for path in sorted(RULES.glob("*.yml")) if "\ngroups:" in f"\n{path.read_text('utf-8')}"]


def scrape_daemons(room: Path, number: int, seconds: float) -> FleetScrapes:
    """Start that many daemons below *room* and have them scraped for *seconds*."""
    with ExitStack() as stack:
        daemons: list[DaemonServer] = []
        while len(daemons) < number:
            some = range(len(daemons), min(len(daemons) + AT_A_TIME, number))
            daemons += [DaemonServer(room / f"{at}") for at in some]
            for daemon in daemons[some.start :]:
                stack.enter_context(daemon)
            for daemon in daemons[some.start :]:
                daemon.wait_until_started()
        stack.callback(_end, daemons)
        return _scraped(room, daemons, seconds, rule_files())


def _scrape_nodes(room: Path, number: int, seconds: float) -> FleetScrapes:
    with ExitStack() as stack:
        nodes = [stack.enter_context(NodeExporter(room / f"{at}")) for at in range(number)]
        stack.callback(_end, nodes)
        for node in nodes:
            wait_for_answer(node.port, "/metrics")
        return _scraped(room, nodes, seconds, [])


def _end(servers: Sequence[Server]) -> None:
    """All together, or a hundred would take their time one after the other."""
    for server in servers:
        server.ask_to_end()


def _scraped(room: Path, servers: Sequence[Server], seconds: float, rules: Sequence[Path]) -> FleetScrapes:
    ports = [server.port for server in servers]
    with Prometheus(room / "prometheus", {"fleet": ports}, INTERVAL, rules) as prometheus:
        wait_for_answer(prometheus.port, "/-/ready")
        time.sleep(SETTLING_SECONDS)
        every = [server.pid for server in servers]
        children = [pid for server in servers for pid in descendants(server.pid)]
        own, whole, its = cpu_of_all(every), cpu_of_all(children), cpu(prometheus.pid)
        began = time.time()
        time.sleep(seconds)
        ended, its = time.time(), cpu(prometheus.pid) - its
        own, whole = cpu_of_all(every) - own, cpu_of_all(children) - whole
        time.sleep(2 * INTERVAL)  # a scrape that had begun is over
        took = _values(prometheus, "scrape_duration_seconds", began, ended)
        up = _values(prometheus, "up", began, ended)
        rules_there = prometheus.rules()
        return FleetScrapes(
            targets=len(servers),
            due=round(len(servers) * (ended - began) / INTERVAL),
            good=int(sum(up)),
            milliseconds=[second * 1000 for second in took],
            cpu=(own + whole) / len(took) * 1000,
            own=own / len(took) * 1000,
            whole=_whole(prometheus, servers),
            samples=round(sum(_values(prometheus, "scrape_samples_scraped", began, ended)) / len(took)),
            cores=its / (ended - began),
            rss=memory(prometheus.pid).rss,
            rules=(len(rules_there), sum(rule["health"] == "err" for rule in rules_there)),
        )


def _values(prometheus: Prometheus, name: str, began: float, ended: float) -> list[float]:
    """Every sample of *name* of every target in the window, as it was stored."""
    series = prometheus.ask(f'{name}{{job="fleet"}}[{round((ended - began) * 1000)}ms]', ended)
    return [float(value) for one in series for _, value in one["values"]]


def _whole(prometheus: Prometheus, servers: Sequence[Server]) -> int:
    """How many targets Prometheus has no series less of than their page has lines.

    A series may have come to the page since the last scrape (a finding, on a busy host), so it may take some.
    """
    until = time.monotonic() + CATCHING_UP_SECONDS
    while (whole := _whole_now(prometheus, servers)) < len(servers) and time.monotonic() < until:
        time.sleep(INTERVAL)
    return whole


def _whole_now(prometheus: Prometheus, servers: Sequence[Server]) -> int:
    lines = {f"127.0.0.1:{server.port}": lines_of(server.port) for server in servers}
    stored = prometheus.ask(f'count by (instance) ({{job="fleet", __name__!~"{OF_PROMETHEUS}"}})')
    known = {one["metric"]["instance"]: int(one["value"][1]) for one in stored}
    return sum(known.get(instance, 0) >= number for instance, number in lines.items())


def _rows(ours: FleetScrapes, theirs: Sequence[FleetScrapes]) -> Iterator[Row]:
    failed = max(ours.due - ours.targets - ours.good, len(ours.milliseconds) - ours.good, 0)
    # at either edge of the window a target may have one scrape less in it, none of them failed
    yield Row("scrapes that failed or were left out", f"{failed} of {ours.due}", "0", failed == 0)
    for mark in (50, 99, 100):
        words = "longest scrape" if mark == 100 else f"scrape p{mark}"
        figure = percentiles([ours.milliseconds], mark)
        yield at_most(words, figure, MOST_P99 if mark == 99 else None)
    yield at_most("CPU a scrape, all of the daemon's processes", spread([ours.cpu], "ms"))
    yield at_most("CPU a scrape, the daemon's own", spread([ours.own], "ms"))
    if theirs:
        node = spread((one.cpu for one in theirs), "ms")
        yield at_most(f"CPU a scrape, {theirs[0].targets} node_exporters before and after", node)
        yield at_most(
            "CPU a scrape ÷ node_exporter's", ratios(spread([ours.cpu] * len(theirs)), node), MOST_OVER_NODE
        )
        yield at_most("scrape p99, node_exporters", p99([one.milliseconds for one in theirs]))
    complete = f"{ours.whole} of {ours.targets}"
    yield Row("daemons all of whose series are there", complete, "all", ours.whole == ours.targets)
    loaded, broken = ours.rules
    yield Row(
        "rules loaded, and broken", f"{loaded} and {broken}", "0 broken", not broken if loaded else None
    )
    yield at_most("samples of one scrape", spread([ours.samples]))
    yield at_most("Prometheus: cores", spread([ours.cores]))
    yield at_most("Prometheus: RSS", spread([ours.rss], "MiB"))
