"""The registry of all metrics, of the daemon and of its probes, and the page for scrapes."""

import gzip
import platform
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache, partial
from pathlib import Path

from aioprometheus.collectors import Registry

from mlopsd.board import Board
from mlopsd.entry import Entry
from mlopsd.metrics import families as own
from mlopsd.metrics.collectors import FamilyCollector, Key, ProcessCollector
from mlopsd.metrics.exposition import Dialect, accepts_gzip, choose_dialect
from mlopsd.metrics.families import Family, Owners, claim, family_of, method_label
from mlopsd.metrics.samples import Samples, board_texts
from mlopsd.probe import Metric, Number

PAUSE = 0.1
"""Seconds: each scrape itself changes the request metrics. Without this pause, each of many scrapers would
get a newly rendered page."""
_LEVEL = 1  # 2000 lines: 1.0 ms and 28 kB; level 6 takes 2.6 ms for 22 kB


@dataclass(frozen=True, slots=True)
class Page:
    """The response to a scrape."""

    body: bytes
    headers: Mapping[str, str]


class PageCache:
    """The cached page of the latest revision, in each requested form. *texts* yields the families."""

    def __init__(self, texts: Callable[[], Iterable[tuple[Family, str]]]) -> None:
        self._texts = texts
        self._revision: object = None
        self._pages: dict[tuple[Dialect, bool], Page] = {}
        self._headers: dict[Dialect, dict[str, str]] = {dialect: {} for dialect in Dialect}

    def page(self, revision: object, dialect: Dialect, *, compressed: bool) -> Page:
        """Return the page, cached as long as *revision* is the same."""
        if revision != self._revision:
            self._revision, self._pages = revision, {}
        if (page := self._pages.get((dialect, compressed))) is None:
            if compressed:
                plain = self.page(revision, dialect, compressed=False)
                body = gzip.compress(plain.body, _LEVEL, mtime=0)
                page = Page(body, {**plain.headers, "Content-Encoding": "gzip"})
            else:
                page = self._write(dialect)
            self._pages[dialect, compressed] = page
        return page

    def _write(self, dialect: Dialect) -> Page:
        headers = self._headers[dialect]
        parts: list[str] = []
        for family, text in self._texts():
            if text:
                if family.name not in headers:
                    headers[family.name] = family.header(dialect)
                parts += headers[family.name], text
        if dialect is Dialect.OPENMETRICS:
            parts.append("# EOF\n")
        body = "".join(parts).encode()
        return Page(body, {"Content-Type": dialect.value, "Vary": "Accept, Accept-Encoding"})


class Metrics:
    """The metrics of one daemon, and their page.

    A page needs only memory and *proc*, the process's own folder in procfs, so it does not block. Any thread
    may record numbers, but only the event loop may call `render`. *clock* is a steady clock in seconds.

    Attributes:
        registry: aioprometheus' registry, with every number that the daemon records.
        probes: The recorder of probes.
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
        self._clock = clock
        self._samples = Samples()
        self._errors = FamilyCollector(own.ERRORS, self.registry, None)
        opened = partial(FamilyCollector, registry=self.registry, errors=self._errors)
        self.probes = ProbeRecorder(opened, self._errors, self._samples)
        build_info, *state = map(opened, (own.BUILD_INFO, own.DRAINING, own.RELOADED, own.RELOADED_AT))
        self._draining, self._reloaded, self._reloaded_at = state
        self._state = build_info, *state
        self._process = ProcessCollector(opened, clock, proc)
        self._lag = opened(own.LOOP_LAG)
        self._requests, self._request_seconds = opened(own.REQUESTS), opened(own.REQUEST_SECONDS)
        self._pages = PageCache(self.texts)
        self._shown, self._shown_at = (
            (0, 0, 0, 0),
            -PAUSE,
        )  # the revision of the page, and when that was written
        self._dialect = lru_cache(maxsize=64)(choose_dialect)
        self._gzip = lru_cache(maxsize=64)(accepts_gzip)
        build_info.set((platform.python_version(), version), 1)
        self._draining.set((), 0)
        self.configured(board.started)
        for component in own.COMPONENTS:
            self._errors.inc((component,), 0)

    def render(self, accept: str = "", accept_encoding: str = "") -> Page:
        """Return the current page, in the form of the headers ``Accept`` and ``Accept-Encoding``."""
        if refused := self._samples.refresh(self._board.version, list(self._board)):
            self._errors.inc(("metrics",), refused)
        self._process.refresh()
        dialect, gzip = self._dialect(accept), self._gzip(accept_encoding)
        revision = self._revision()
        page = self._pages.page(revision, dialect, compressed=gzip)
        if revision != self._shown:
            self._shown, self._shown_at = revision, self._clock()  # after rendering, which may take a while
        return page

    def texts(self) -> Iterator[tuple[Family, str]]:
        """Yield each family with its lines, in the order of the page, as of the last `render`."""
        always = (self._lag, *self._process.collectors, self._requests, self._request_seconds)
        yield from self._samples.texts()
        yield from ((collector.family, collector.text()) for collector in self._state)
        yield from board_texts(self._board.verdict, list(self._board))
        yield from ((collector.family, collector.text()) for collector in (*self.probes.collectors, *always))

    def http_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Record an answer to a request to *route* (the pattern, never the path)."""
        self._requests.inc((method_label(method), route, str(status)))
        self._request_seconds.observe((route,), seconds)

    def loop_lag(self, seconds: float) -> None:
        """Record that the event loop was late by *seconds*."""
        self._lag.observe((), seconds)

    def error(self, component: str) -> None:
        """Record an internal error in *component*."""
        self._errors.inc((component,))

    def draining(self) -> None:
        """Record that the daemon is draining."""
        self._draining.set((), 1)

    def configured(self, at: datetime) -> None:
        """Record a successful load of the configuration at *at*."""
        self._reloaded.set((), 1)
        self._reloaded_at.set((), at.timestamp())

    def not_configured(self) -> None:
        """Record that a changed configuration was rejected."""
        self._reloaded.set((), 0)

    def _revision(self) -> tuple[int, int, int, int]:
        """Return the revision of the page. Read it before rendering, so that a later write is not lost."""
        requests = self._shown[-1]
        if self._clock() - self._shown_at >= PAUSE:
            requests = self._requests.revision + self._request_seconds.revision
        live = (*self._state, *self.probes.collectors, self._lag, *self._process.collectors)
        return (
            self._board.version,
            self._samples.revision,
            sum(collector.revision for collector in live),
            requests,
        )


class ProbeRecorder:
    """The recorder of probes: their checks, and the metrics that they declare.

    Any thread may use the instruments and `clashes`. Use everything else only on the event loop.
    """

    def __init__(
        self, open_family: Callable[[Family], FamilyCollector], errors: FamilyCollector, samples: Samples
    ) -> None:
        self._open_family = open_family
        self._samples = samples
        ours = (*own.FAMILIES, *own.BOARD_FAMILIES, *own.PROCESS_FAMILIES)
        self._owners = claim({}, ours, "mlopsd itself")
        self._opening = threading.RLock()
        self._collectors: dict[str, FamilyCollector] = {}
        recorded = map(self._collector, (own.CHECKS, own.CHECK_SECONDS, own.HUNG, own.WORKER_RESTARTS))
        self._checks, self._check_seconds, self._hung, self._restarts = recorded
        self._collectors[own.ERRORS.name] = errors

    @property
    def collectors(self) -> list[FamilyCollector]:
        """Return the families that do not come from readings, the daemon's own first."""
        return list(self._collectors.values())

    def checked(self, probe: str, result: str, seconds: float) -> None:
        """Record that a check of *probe* ended as *result* after *seconds*."""
        self._checks.inc((probe, result))
        self._check_seconds.observe((probe,), seconds)

    def recorded(self, entry: Entry) -> None:
        """Take the samples of *entry*, and log the rejected ones at once, not only at the next scrape."""
        if refused := self._samples.take(entry):
            self._collectors[own.ERRORS.name].inc(("metrics",), refused)

    def hung(self, probe: str, *, hung: bool) -> None:
        """Record whether a check of *probe* that exceeded its timeout is still running."""
        self._hung.set((probe,), hung)

    def worker_restarted(self, probe: str) -> None:
        """Record a restart of *probe*'s worker."""
        self._restarts.inc((probe,))

    def forget(self, probe: str) -> None:
        """Remove every recorded series of *probe*. Those of the board end when it leaves the board."""
        for collector in self.collectors:
            collector.forget(probe)

    def clashes(self, wanted: Mapping[str, Sequence[Metric]]) -> dict[str, str]:
        """Return why plugins among *wanted* cannot declare their metrics, without declaring any."""
        owners, clashes = self._owners, {}
        for plugin, metrics in wanted.items():
            try:
                owners = _claimed(owners, plugin, metrics)
            except ValueError as error:
                clashes[plugin] = str(error)
        return clashes

    def declare(self, plugin: str, metrics: Sequence[Metric]) -> None:
        """Open a family for each of *metrics* that is not open.

        Raises:
            ValueError: A metric is declared already, with another meaning. Then none is opened.
        """
        self._owners = _claimed(self._owners, plugin, metrics)
        for metric in metrics:
            family = family_of(plugin, metric)
            with self._opening:
                if metric.kind == "histogram":
                    self._collector(family)
                elif family.name not in self._collectors:
                    self._samples.show(plugin, metric.name, family)

    def instruments(self, probe: str, plugin: str, declared: Sequence[Metric]) -> "ProbeInstruments":
        """Declare the metrics, and return the counters and histograms of *probe* of *plugin*."""
        self.declare(plugin, declared)
        self._restarts.inc((probe,), 0)
        for metric in declared:
            if metric.kind == "histogram":
                self._collector(family_of(plugin, metric)).set_bounds(probe, metric.buckets)
        return ProbeInstruments(probe, plugin, tuple(declared), self._collector)

    def _collector(self, family: Family) -> FamilyCollector:
        """Return the collector of *family*; a new one replaces the samples of readings."""
        with self._opening:
            if (known := self._collectors.get(family.name)) is None:
                self._samples.hide(family)
                known = self._collectors[family.name] = self._open_family(family)
            return known


@dataclass(frozen=True, slots=True)
class ProbeInstruments:
    """The counters and histograms of *probe* of *plugin*. Any other metric raises a ValueError."""

    probe: str
    plugin: str
    declared: tuple[Metric, ...]
    collector: Callable[[Family], FamilyCollector]

    def counter(self, metric: Metric) -> "ProbeInstrument":
        """Return the counter that *metric* declares. It no longer comes from readings."""
        return self._instrument(metric, "counter")

    def histogram(self, metric: Metric) -> "ProbeInstrument":
        """Return the histogram that *metric* declares."""
        return self._instrument(metric, "histogram")

    def _instrument(self, metric: Metric, kind: str) -> "ProbeInstrument":
        if metric not in self.declared:
            names = ", ".join(declared.name for declared in self.declared) or "none"
            raise ValueError(f"probe {self.probe!r} does not declare {metric.name!r}; it declares: {names}")
        if metric.kind != kind:
            raise ValueError(
                f"metric {metric.name!r} of plugin {self.plugin!r} is a {metric.kind}, not a {kind}"
            )
        return ProbeInstrument(self.probe, metric, self.collector(family_of(self.plugin, metric)))


@dataclass(frozen=True, slots=True)
class ProbeInstrument:
    """The series of one probe in a counter or histogram. Undeclared labels raise a ValueError."""

    probe: str
    metric: Metric
    collector: FamilyCollector

    def inc(self, amount: Number = 1, **labels: object) -> None:
        """Add *amount*, as `FamilyCollector.inc` does."""
        self.collector.inc(self._key(labels), amount)

    def observe(self, value: Number, **labels: object) -> None:
        """Count *value*, as `FamilyCollector.observe` does."""
        self.collector.observe(self._key(labels), value)

    def observe_counts(self, counts: Sequence[int], total: Number, **labels: object) -> None:
        """Add observations that were counted elsewhere, as `FamilyCollector.observe_counts` does."""
        self.collector.observe_counts(self._key(labels), counts, total)

    def _key(self, labels: Mapping[str, object]) -> Key:
        return (self.probe, *(value for _, value in self.metric.label_values(labels)))


def _claimed(owners: Owners, plugin: str, metrics: Iterable[Metric]) -> Owners:
    return claim(owners, (family_of(plugin, metric) for metric in metrics), f"plugin {plugin!r}")
