"""Everything that Prometheus is told: what the daemon counts, what the board holds, and the page of both.

Nothing here blocks: a page is made of what is in memory and of ``/proc/self``.
"""

import platform
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from aioprometheus.collectors import Gauge, Registry

from mlopsd.board import Board
from mlopsd.metrics import own
from mlopsd.metrics.declarations import Declarations
from mlopsd.metrics.exposition import Dialect
from mlopsd.metrics.family import Family, family_of
from mlopsd.metrics.instruments import ProbeInstruments, key_of
from mlopsd.metrics.layout import SampleFamily
from mlopsd.metrics.live import Live, LiveCounter, LiveGauge, LiveHistogram
from mlopsd.metrics.negotiation import accepts_gzip, choose_dialect
from mlopsd.metrics.page import Deflate, Page, Pages, Section
from mlopsd.metrics.process import PROCESS_FAMILIES, Process
from mlopsd.metrics.requests import Requests
from mlopsd.metrics.samples import Samples
from mlopsd.metrics.verdicts import BOARD_FAMILIES, BoardFamily
from mlopsd.probe import Metric, Number

LiveT = TypeVar("LiveT", bound=Live[Any])


class Metrics:
    """The registry of one daemon, and the page that it makes.

    What counts (the handles, `count`, `observe` and the instruments) may be called from any thread, all
    else, and `http_request`, from the event loop's alone. *clock* is a steady clock in seconds; *proc*
    the process's own folder in procfs.

    Attributes:
        registry: aioprometheus' books; the daemon's own families are in it, and ours for the rest.
        pages: the page in each dialect.
    """

    def __init__(
        self,
        board: Board,
        version: str,
        clock: Callable[[], float] = time.monotonic,
        proc: Path = Path("/proc/self"),
    ) -> None:
        self.registry = Registry()
        self._board = board
        self._declarations = Declarations((*own.FAMILIES, *BOARD_FAMILIES, *PROCESS_FAMILIES))
        self._plugins: dict[str, str] = {}  # of each probe that holds instruments
        self._live: dict[str, Live[Any]] = {}
        self._sampled: dict[str, SampleFamily] = {}
        self._samples = Samples(board, self._refused)
        self._board_families = [BoardFamily(family, self.registry, board) for family in BOARD_FAMILIES]
        self._seen = -1  # the board's version that those families show
        self._process = Process(self.registry, clock, proc)
        self._open_own_families(clock)
        self._lay_out(_build_info(self.registry, version))
        self._dialect = lru_cache(maxsize=64)(choose_dialect)
        self._gzip = lru_cache(maxsize=64)(accepts_gzip)

    def _open_own_families(self, clock: Callable[[], float]) -> None:
        self._checks = self._open(LiveCounter, own.CHECKS)
        self._check_seconds = self._open(LiveHistogram, own.CHECK_SECONDS)
        self._hung = self._open(LiveGauge, own.HUNG)
        self._restarts = self._open(LiveCounter, own.WORKER_RESTARTS)
        self._lag = self._open(LiveHistogram, own.LOOP_LAG)
        self._errors = self._open(LiveCounter, own.ERRORS)
        number = self._open(LiveCounter, own.REQUESTS)
        seconds = self._open(LiveHistogram, own.REQUEST_SECONDS)
        self._requests = Requests(number, seconds, clock)
        self._draining = self._open(LiveGauge, own.DRAINING)
        self._reloaded = self._open(LiveGauge, own.RELOADED)
        self._reloaded_at = self._open(LiveGauge, own.RELOADED_AT)
        for component in own.COMPONENTS:
            self._errors.count((component,), 0)
        self._draining.put((), 0)
        self.configured(self._board.started)

    def _lay_out(self, build_info: Gauge) -> None:
        """Order the page from what seldom changes to what each second and each scrape change."""
        watched = (self._checks, self._check_seconds, self._hung, self._restarts, self._errors)
        life = (build_info, self._draining, self._reloaded, self._reloaded_at)
        self._plugin_parts: dict[str, Section] = {}
        self._instruments = Section("instruments")
        self._parts = [
            Section("board", *life, *self._board_families),
            Section("daemon", *watched),
            self._instruments,
            Section("always", self._lag, *self._process.families, *self._requests.families),
        ]
        deflate = Deflate()
        self.pages = {dialect: Pages(dialect, self._parts, deflate) for dialect in Dialect}

    def render(self, accept: str = "", accept_encoding: str = "") -> Page:
        """The page as of now, as the headers ``Accept`` and ``Accept-Encoding`` ask for it."""
        self._samples.refresh()
        if self._board.version != self._seen:
            self._seen = self._board.version
            for family in self._board_families:
                family.refresh()
        self._process.refresh()
        self._requests.refresh()
        return self.pages[self._dialect(accept)].page(gzip=self._gzip(accept_encoding))

    # -- what the daemon counts

    def http_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request to *route* (the pattern, never the path) was answered; an invented method is OTHER."""
        self._requests.answered(method, route, status, seconds)

    def checked(self, probe: str, result: str, seconds: float) -> None:
        """A check of *probe* ended as *result* after *seconds*."""
        self._checks.count((probe, result))
        self._check_seconds.note((probe,), seconds)

    def hung(self, probe: str, hung: bool) -> None:  # noqa: FBT001  # it is the value of the gauge
        """A check of *probe* that outlived its timeout is still running, or is not."""
        self._hung.put((probe,), hung)

    def worker_restarted(self, probe: str) -> None:
        """The worker of *probe* was started again."""
        self._restarts.count((probe,))

    def loop_lag(self, seconds: float) -> None:
        """The event loop was late by *seconds*."""
        self._lag.note((), seconds)

    def error(self, component: str) -> None:
        """A fault in *component* that cost less than a reading."""
        self._errors.count((component,))

    def draining(self) -> None:
        """The daemon was told to stop, and answers no more with "ready"."""
        self._draining.put((), 1)

    def configured(self, at: datetime) -> None:
        """The configuration that was read at *at* is in force."""
        self._reloaded.put((), 1)
        self._reloaded_at.put((), at.timestamp())

    def not_configured(self) -> None:
        """The configuration was read anew and refused; the one before is in force."""
        self._reloaded.put((), 0)

    def forget_probe(self, name: str) -> None:
        """Drop every series of the probe *name*; what comes from the board goes when it leaves that."""
        self._plugins.pop(name, None)
        for live in self._live.values():
            live.forget("probe", name)

    # -- what probes declare and count

    def declare(self, plugin: str, metrics: Sequence[Metric]) -> None:
        """Open a family for each of *metrics*; doing it again is nothing.

        Raises:
            ValueError: a family of that name is declared differently, or a histogram has no buckets.
        """
        for metric, family in self._declarations.declare(plugin, metrics):
            if metric.kind == "histogram":
                self._open_instrument(LiveHistogram, family)
            elif family.name not in self._live:
                self._samples.show(plugin, metric.name, self._sample_family(plugin, family))

    def clashes(self, wanted: Mapping[str, Sequence[Metric]]) -> dict[str, str]:
        """As `Declarations.clashes`; from any thread."""
        return self._declarations.clashes(wanted)

    def instruments(self, probe: str, plugin: str, declared: Sequence[Metric]) -> ProbeInstruments:
        """The counters and histograms among *declared* for the probe *probe* of *plugin*.

        A counter that was handed out is no longer taken from readings.

        Raises:
            ValueError: as `declare`.
        """
        self.declare(plugin, declared)
        self._plugins[probe] = plugin
        self._restarts.count((probe,), 0)
        for metric in declared:
            if metric.kind == "histogram":
                self._instrument(LiveHistogram, plugin, metric).bound(probe, metric.buckets)
        return ProbeInstruments(
            probe,
            tuple(declared),
            lambda metric: self._instrument(LiveCounter, plugin, metric),
            lambda metric: self._instrument(LiveHistogram, plugin, metric),
        )

    def count(self, probe: str, name: str, labels: Mapping[str, object], amount: Number = 1) -> None:
        """Add *amount* to the counter *name* of *probe*, which runs in a child process.

        Raises:
            ValueError: a probe that is not there, a counter or labels that it does not declare, or an
                amount that is not a finite number from 0 up.
        """
        plugin, metric = self._declared(probe, name)
        self._instrument(LiveCounter, plugin, metric).count(key_of(probe, metric, labels), amount)

    def observe(self, probe: str, name: str, labels: Mapping[str, object], value: Number) -> None:
        """Count *value* in the histogram *name* of *probe*, which runs in a child process.

        Raises:
            ValueError: a probe that is not there, a histogram or labels that it does not declare, or a
                value that is not a number.
        """
        plugin, metric = self._declared(probe, name)
        self._instrument(LiveHistogram, plugin, metric).note(key_of(probe, metric, labels), value)

    def observe_counts(
        self, probe: str, name: str, labels: Mapping[str, object], counts: Sequence[int], total: Number
    ) -> None:
        """Count in the histogram *name* of *probe*, which runs in a child process, what was counted there.

        Raises:
            ValueError: as `observe`, or counts that do not fit its buckets.
        """
        plugin, metric = self._declared(probe, name)
        live = self._instrument(LiveHistogram, plugin, metric)
        live.note_counts(key_of(probe, metric, labels), counts, total)

    def _declared(self, probe: str, name: str) -> tuple[str, Metric]:
        plugin = self._board[probe].plugin if probe in self._board else self._plugins.get(probe)
        if plugin is None:
            raise ValueError(f"cannot count {name!r} of probe {probe!r}: there is no such probe")
        return plugin, self._declarations.metric(plugin, name)

    def _instrument(self, kind: type[LiveT], plugin: str, metric: Metric) -> LiveT:
        family = family_of(plugin, metric)
        if metric.kind != kind.kind.name:
            raise ValueError(
                f"metric {metric.name!r} of plugin {plugin!r} is a {metric.kind}, no {kind.kind.name}"
            )
        if (sampled := self._sampled.pop(family.name, None)) is not None:
            self._samples.hide(sampled)
            self.registry.deregister(family.name)
            for part in self._plugin_parts.values():
                part.remove(sampled)
        return self._open_instrument(kind, family)

    def _open_instrument(self, kind: type[LiveT], family: Family) -> LiveT:
        is_new = family.name not in self._live
        live = self._open(kind, family)
        if is_new:
            self._instruments.add(live)
        return live

    def _open(self, kind: type[LiveT], family: Family) -> LiveT:
        live = self._live.get(family.name)
        if not isinstance(live, kind):
            live = self._live[family.name] = kind(family, self.registry, self._refused)
        return live

    def _sample_family(self, plugin: str, family: Family) -> SampleFamily:
        if (known := self._sampled.get(family.name)) is not None:
            return known
        if plugin not in self._plugin_parts:
            part = self._plugin_parts[plugin] = Section(f"samples of {plugin}")
            self._parts.insert(len(self._plugin_parts) - 1, part)
        opened = self._sampled[family.name] = SampleFamily(family, self.registry)
        self._plugin_parts[plugin].add(opened)
        return opened

    def _refused(self, number: int = 1) -> None:
        self._errors.count(("metrics",), number)


def _build_info(registry: Registry, version: str) -> Gauge:
    gauge = Gauge(own.BUILD_INFO.name, own.BUILD_INFO.help, registry=registry)
    gauge.set({"version": version, "python": platform.python_version()}, 1)
    return gauge
