"""Small stand-ins for what surrounds a watch: an account that remembers, and the makings of a probe."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlopsd.board import Board
from mlopsd.config.plugins import Plugin
from mlopsd.config.probes import ProbeConfig
from mlopsd.entry import Entry, Terms
from mlopsd.probe import Context, Counter, Histogram, Isolation, Metric, Number, Probe
from mlopsd.watch import Watch
from mlopsd.worker.loop import LoopWorker
from mlopsd.worker.mask import SecretMask
from mlopsd.worker.process import InitMessage, ProcessWorker
from mlopsd.worker.thread import ThreadWorker
from mlopsd.worker.worker import Worker


class Sink:
    """A counter and a histogram that remember what they were told."""

    def __init__(self) -> None:
        self.reported: list[tuple[Number, Mapping[str, object]]] = []

    def inc(self, amount: Number = 1, **labels: object) -> None:
        self.reported.append((amount, labels))

    def observe(self, value: Number, **labels: object) -> None:
        self.reported.append((value, labels))

    def observe_counts(self, counts: Sequence[int], total: Number, **labels: object) -> None:
        self.reported.append((total, {**labels, "counts": list(counts)}))


class Instruments:
    """Hands out a `Sink` a metric."""

    def __init__(self) -> None:
        self.sinks: dict[str, Sink] = {}

    def counter(self, metric: Metric) -> Counter:
        return self.sinks.setdefault(metric.name, Sink())

    def histogram(self, metric: Metric) -> Histogram:
        return self.sinks.setdefault(metric.name, Sink())


@dataclass
class Account:
    """Remembers what a watch and its worker counted."""

    checks: list[tuple[str, str]] = field(default_factory=list)
    hanging: dict[str, bool] = field(default_factory=dict)
    counts: list[tuple[str, str, dict[str, object], Number]] = field(default_factory=list)
    restarts: int = 0

    def checked(self, probe: str, result: str, seconds: float) -> None:
        assert seconds >= 0
        self.checks.append((probe, result))

    def recorded(self, entry: Entry) -> None:
        """Nobody asks for the samples."""

    def hung(self, probe: str, *, hung: bool) -> None:
        self.hanging[probe] = hung

    def worker_restarted(self, _probe: str) -> None:
        self.restarts += 1

    def instruments(self, probe: str, _plugin: str, _declared: Sequence[Metric]) -> "AccountInstruments":
        return AccountInstruments(self, probe)

    def restarted(self) -> None:
        self.restarts += 1


@dataclass
class AccountInstruments:
    """Hands out instruments that write to an `Account`."""

    account: Account
    probe: str

    def counter(self, metric: Metric) -> "AccountInstrument":
        assert metric.kind == "counter"
        return AccountInstrument(self.account, self.probe, metric.name)

    def histogram(self, metric: Metric) -> "AccountInstrument":
        assert metric.kind == "histogram"
        return AccountInstrument(self.account, self.probe, metric.name)


@dataclass
class AccountInstrument:
    """Writes what it is told to an `Account`."""

    account: Account
    probe: str
    name: str

    def inc(self, amount: Number = 1, **labels: object) -> None:
        self.account.counts.append((self.probe, self.name, labels, amount))

    def observe(self, value: Number, **labels: object) -> None:
        self.account.counts.append((self.probe, self.name, labels, value))

    def observe_counts(self, counts: Sequence[int], total: Number, **labels: object) -> None:
        self.account.counts.append((self.probe, self.name, {**labels, "counts": list(counts)}, total))


@dataclass
class Clock:
    """A steady clock that moves when told."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def configured(
    probe: type[Probe[Any]],
    isolation: Isolation,
    table: Mapping[str, Any] | None = None,
    name: str = "door",
    patience: float | None = None,
) -> ProbeConfig:
    """*probe* as the configuration would have it, on its own schedule but for *patience*, its timeout."""
    plugin = Plugin("door", f"{probe.__module__}:{probe.__qualname__}", "tests 1")
    schedule = probe.schedule
    timeout = schedule.timeout if patience is None else patience
    terms = Terms(schedule.interval, timeout, schedule.fail_after, schedule.recover_after)
    options = probe.Options(**(table or {}))
    metrics = tuple(probe.declares(options))
    return ProbeConfig(name, plugin, probe, options, terms, isolation, dict(table or {}), metrics)


def worker(configured: ProbeConfig, folder: Path, account: Account) -> Worker:
    """The worker for *configured*, by its isolation."""
    log = logging.getLogger("mlopsd.test")
    context = Context(configured.name, folder, log, {}, Instruments())
    if configured.isolation == "process":
        target = f"{configured.probe.__module__}:{configured.probe.__qualname__}"
        opening = InitMessage(
            configured.name, target, configured.table, folder, logging.DEBUG, configured.terms.timeout
        )
        declared = configured.probe.declares(configured.options)
        instruments = account.instruments(configured.name, configured.plugin.name, declared)
        return ProcessWorker(opening, declared, instruments, account.restarted, log)
    kind = ThreadWorker if configured.isolation == "thread" else LoopWorker
    mask = SecretMask.of([configured.options])
    return kind(configured.name, lambda: configured.probe(configured.options, context), mask)


def watch(configured: ProbeConfig, folder: Path, board: Board, account: Account) -> Watch:
    """A watch over *configured*, enrolled on *board*."""
    if configured.name not in board:
        board.enrol(configured.name, configured.plugin.name, configured.terms)
    return Watch(configured, worker(configured, folder, account), board, account, host="here")
