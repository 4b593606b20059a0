"""One check of each probe with the daemon's own parts: the same workers, timeouts and statuses."""

import asyncio
import json
import logging
import math
import signal
import socket
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from inspect import iscoroutinefunction
from pathlib import Path
from types import FrameType
from typing import Any

from mlopsd.board import Board
from mlopsd.cli.errors import CANNOT_TELL, CommandError
from mlopsd.cli.scrape import ScrapedSeries, read_series
from mlopsd.cli.terminal.progress import ProgressLine, RolloutMeter
from mlopsd.config.probes import ProbeConfig
from mlopsd.daemon.event_loop import run_until_done
from mlopsd.format import format_age
from mlopsd.metrics.registry import Metrics
from mlopsd.predictor import Progress, VersionFacts
from mlopsd.probe import Sample
from mlopsd.process.reaper import adopt_orphans
from mlopsd.watch import Watch
from mlopsd.web.api.readings import ReadingDocuments
from mlopsd.worker.factory import make_worker
from mlopsd.worker.worker import Recorder

REDRAW = 0.2  # seconds
BETWEEN = 1.0  # seconds between two checks: time for a rate to be one
GRACE = 5.0  # seconds beyond the longest timeout, for the start and end of the probes' processes


class EventLoopBlocked(Exception):
    """The error that is raised in code that blocks the event loop."""


@dataclass(frozen=True, slots=True)
class CheckMode:
    """The way to check.

    Attributes:
        times: How often to check each probe; the last reading counts.
        debug: True to check in this process and without a time limit, so that a debugger works.
        private_paths: Files that no model may read.
    """

    times: int = 1
    debug: bool = False
    private_paths: Sequence[Path] = ()

    def limit(self, probes: Sequence[ProbeConfig]) -> float:
        """Return the seconds after which blocking code is ended; 0 for never."""
        return 0 if self.debug else max((probe.terms.timeout for probe in probes), default=0) + GRACE


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of one check of each probe.

    Attributes:
        health: The host's health as in ``/health/detailed``.
        complaints: A line for each undeclared sample.
        series: The series that a scrape would show, by probe.
    """

    health: dict[str, Any]
    complaints: Sequence[str]
    series: Mapping[str, Sequence[ScrapedSeries]]


def check_once(
    probes: Sequence[ProbeConfig], progress: ProgressLine, mode: CheckMode | None = None
) -> CheckResult:
    """Check *probes* and return their health and metrics.

    Raises:
        CommandError: The state folder cannot be created, or two probes declare contradicting metrics.
    """
    mode = mode or CheckMode()
    with _alarm(mode.limit(probes)) as postpone:
        return run_until_done(_check(probes, progress, postpone, mode))


@contextmanager
def _alarm(seconds: float) -> Iterator[Callable[[], None]]:
    """Raise `EventLoopBlocked` in the main thread after *seconds*, and again after as many. 0 means never.

    The event loop calls the yielded function, which postpones the alarm. Nothing else can end a coroutine
    that blocks.
    """

    def ring(_number: int, _frame: FrameType | None) -> None:
        raise EventLoopBlocked(f"it blocked the event loop for {seconds:g} s; a coroutine must not block")

    before = signal.signal(signal.SIGALRM, ring)

    def postpone() -> None:
        signal.setitimer(signal.ITIMER_REAL, seconds, seconds)

    postpone()
    try:
        yield postpone
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


async def _check(
    probes: Sequence[ProbeConfig], progress: ProgressLine, postpone: Callable[[], None], mode: CheckMode
) -> CheckResult:
    board = Board()
    try:
        with tempfile.TemporaryDirectory(prefix="mlopsd-check-", ignore_cleanup_errors=True) as folder:
            metrics = Metrics(board, version("mlopsd"))
            checks = [OneShotCheck(probe, board, metrics.probes, Path(folder), mode) for probe in probes]
            await _run_all(checks, board, progress, postpone)
            return CheckResult(
                _build_health(board), list(_undeclared_samples(probes, board)), read_series(metrics, probes)
            )
    except (OSError, ValueError) as error:
        raise CommandError(
            f"cannot check: {error}; correct that and try again", status=CANNOT_TELL
        ) from error
    finally:
        board.close()


async def _run_all(
    checks: Sequence["OneShotCheck"], board: Board, progress: ProgressLine, postpone: Callable[[], None]
) -> None:
    adopt_orphans()
    loop = asyncio.get_running_loop()
    tasks = {loop.create_task(check.run(), name=check.name) for check in checks}
    try:
        await _wait_for(tasks, board, progress, postpone)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*(check.close() for check in checks))


class OneShotCheck:
    """The check of one probe, or for a model the checks until the end of its rollout."""

    def __init__(
        self, configured: ProbeConfig, board: Board, recorder: Recorder, folder: Path, mode: CheckMode
    ) -> None:
        self.name = configured.name
        self._board = board
        self._times = mode.times
        state = folder / configured.name
        state.mkdir()
        board.enrol(configured.name, configured.plugin.name, configured.terms)
        self._check_requested = asyncio.Event()
        log = logging.getLogger("mlopsd.worker")
        worker = make_worker(
            _in_this_process(configured) if mode.debug else configured,
            state,
            board,
            recorder,
            log,
            request_check=self._check_requested.set,
            private_paths=lambda: mode.private_paths,
        )
        watched = _without_limit(configured) if mode.debug else configured
        self._watch = Watch(watched, worker, board, recorder)

    async def run(self) -> None:
        """Check as often as wanted. While the probe shows progress, check again on each of its requests."""
        await self._watch.check()
        for _ in range(self._times - 1):
            await asyncio.sleep(BETWEEN)
            await self._watch.check()
        while _progress_of(self._board, self.name) is not None:
            await self._check_requested.wait()
            self._check_requested.clear()
            await self._watch.check()

    async def close(self) -> None:
        """Close the probe."""
        await self._watch.close()


def _in_this_process(configured: ProbeConfig) -> ProbeConfig:
    """Return *configured* for this process. A plain check gets a thread, so it may run a loop."""
    return replace(configured, isolation="loop" if iscoroutinefunction(configured.probe.check) else "thread")


def _without_limit(configured: ProbeConfig) -> ProbeConfig:
    """Return *configured* without a timeout; the probe's context keeps the real one."""
    return replace(configured, terms=replace(configured.terms, timeout=math.inf))


async def _wait_for(
    tasks: set[asyncio.Task[Any]], board: Board, progress: ProgressLine, postpone: Callable[[], None]
) -> None:
    """Wait for all *tasks*, and show the running ones with their progress."""
    loop = asyncio.get_running_loop()
    began, pending = loop.time(), tasks
    meters: defaultdict[str, RolloutMeter] = defaultdict(RolloutMeter)
    while pending:
        postpone()
        names = sorted(task.get_name() for task in pending)
        rollouts = [
            f"{name}: {meters[name].format_live(shown)}"
            for name in names
            if (shown := _progress_of(board, name)) is not None
        ]
        waiting = f"checking {', '.join(names)} … {format_age(loop.time() - began)}"
        progress.show(", ".join(rollouts) or waiting)
        _, pending = await asyncio.wait(pending, timeout=REDRAW)


def _progress_of(board: Board, probe: str) -> Progress | None:
    return VersionFacts.read(board[probe].facts).progress


def _undeclared_samples(probes: Sequence[ProbeConfig], board: Board) -> Iterator[str]:
    """Yield a line for each reported sample that the probe does not declare: no scrape shows it."""
    for probe in probes:
        declared = {metric.name: frozenset(metric.labels) for metric in probe.metrics}
        reported = {(sample.name, frozenset(dict(sample.labels))) for sample in _samples(board, probe.name)}
        for name, labels in sorted(reported, key=lambda sample: (sample[0], sorted(sample[1]))):
            if declared.get(name) != labels:
                shown = f"{name}{{{', '.join(sorted(labels))}}}" if labels else name
                fix = "declare it in the probe's metrics, with these labels"
                yield f"cannot use the sample {shown} of probe {probe.name!r}: it is not declared; {fix}"


def _samples(board: Board, probe: str) -> Iterator[Sample]:
    return (sample for sample in board[probe].reading.samples if isinstance(sample, Sample))


def _build_health(board: Board) -> dict[str, Any]:
    health: dict[str, Any] = json.loads(
        ReadingDocuments(board, lambda _probe: None).detailed(socket.gethostname(), version("mlopsd"))
    )
    return health
