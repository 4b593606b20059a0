"""One look at each probe with the daemon's own parts: the same workers, deadlines and judgement."""

import asyncio
import json
import logging
import socket
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mlopsd.board import Board
from mlopsd.cli.errors import CANNOT_TELL, CommandError
from mlopsd.cli.terminal.progress import ProgressLine
from mlopsd.cli.terminal.rollout_progress import Meter
from mlopsd.config.probes import ProbeConfig
from mlopsd.metrics import Metrics
from mlopsd.probe import Sample
from mlopsd.process.reaper import adopt_orphans
from mlopsd.watch import Watch
from mlopsd.web.api.readings import ReadingDocuments
from mlopsd.worker.factory import make_worker

PROGRESS = "progress"  # the fact in which a probe shows what is on its way
REDRAW = 0.2  # seconds


async def check_once(
    probes: Sequence[ProbeConfig],
    progress: ProgressLine,
    turned: Callable[[], None],
    private: Sequence[Path] = (),
) -> tuple[dict[str, Any], list[str]]:
    """The host's health as ``/health/detailed`` has it, found out now; and which samples are no use.

    *turned* is called all the time while the event loop turns; *private* is kept from models.

    Raises:
        Failure: there is no room for a state folder, or two probes contradict each other in their metrics.
    """
    board = Board()
    try:
        with tempfile.TemporaryDirectory(prefix="mlopsd-check-", ignore_cleanup_errors=True) as folder:
            metrics = Metrics(board, version("mlopsd"))
            looks = [
                OneShotChecks(configured, board, metrics, Path(folder), private) for configured in probes
            ]
            await _look(looks, board, progress, turned)
            return _health(board), list(_refused(probes, board))
    except (OSError, ValueError) as error:
        raise CommandError(
            f"cannot check: {error}; correct that and try again", status=CANNOT_TELL
        ) from error
    finally:
        board.close()


async def _look(
    looks: Sequence["OneShotChecks"], board: Board, progress: ProgressLine, turned: Callable[[], None]
) -> None:
    adopt_orphans()
    loop = asyncio.get_running_loop()
    checks = {loop.create_task(one.to_the_end(), name=one.name) for one in looks}
    try:
        await _wait(checks, board, progress, turned)
    finally:
        for check in checks:
            check.cancel()
        await asyncio.gather(*(one.close() for one in looks))


class OneShotChecks:
    """One look at a probe; at one that has something on its way, until that has arrived."""

    def __init__(
        self, configured: ProbeConfig, board: Board, metrics: Metrics, folder: Path, private: Sequence[Path]
    ) -> None:
        self.name = configured.name
        self._board = board
        state = folder / configured.name
        state.mkdir()
        board.enrol(configured.name, configured.plugin.name, configured.terms)
        self._again = asyncio.Event()
        log = logging.getLogger("mlopsd.worker")
        worker = make_worker(
            configured, state, board, metrics, log, again=self._again.set, private=lambda: private
        )
        self._watch = Watch(configured, worker, board, metrics)

    async def to_the_end(self) -> None:
        """Check, and check again whenever a probe that shows its progress asks for it."""
        await self._watch.check()
        while PROGRESS in self._board[self.name].facts:
            await self._again.wait()
            self._again.clear()
            await self._watch.check()

    async def close(self) -> None:
        """Release the probe."""
        await self._watch.close()


async def _wait(
    checks: set[asyncio.Task[Any]], board: Board, progress: ProgressLine, turned: Callable[[], None]
) -> None:
    """Wait for all of *checks* and say which are still at it, and what with."""
    loop = asyncio.get_running_loop()
    began, pending = loop.time(), checks
    meters: defaultdict[str, Meter] = defaultdict(Meter)
    while pending:
        turned()
        names = sorted(check.get_name() for check in pending)
        on_the_way = [
            f"{name}: {meters[name].live(shown)}"
            for name in names
            if isinstance(shown := board[name].facts.get(PROGRESS), dict)
        ]
        waiting = f"checking {', '.join(names)} … {loop.time() - began:.0f} s"
        progress.show(", ".join(on_the_way) or waiting)
        _, pending = await asyncio.wait(pending, timeout=REDRAW)


def _refused(probes: Sequence[ProbeConfig], board: Board) -> Iterator[str]:
    """A line for each kind of sample that a probe reports and has not declared, so that no scrape has it."""
    for probe in probes:
        declared = {metric.name: frozenset(metric.labels) for metric in probe.probe.metrics}
        reported = {(sample.name, frozenset(dict(sample.labels))) for sample in _samples(board, probe.name)}
        for name, labels in sorted(reported, key=lambda kind: (kind[0], sorted(kind[1]))):
            if declared.get(name) != labels:
                told = f"{name}{{{', '.join(sorted(labels))}}}" if labels else name
                cure = "declare it in the probe's metrics, with these labels"
                yield f"cannot use the sample {told} of probe {probe.name!r}: it is not declared; {cure}"


def _samples(board: Board, probe: str) -> Iterator[Sample]:
    return (sample for sample in board[probe].reading.samples if isinstance(sample, Sample))


def _health(board: Board) -> dict[str, Any]:
    health: dict[str, Any] = json.loads(
        ReadingDocuments(board, lambda _probe: None).detailed(socket.gethostname(), version("mlopsd"))
    )
    return health
