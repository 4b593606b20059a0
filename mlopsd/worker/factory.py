"""The choice of the worker for a configured probe."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mlopsd.board import Board, Readings
from mlopsd.config.probes import ProbeConfig
from mlopsd.probe import Context, Probe
from mlopsd.process.backoff import FIRST, LONGEST
from mlopsd.worker.loop import LoopWorker
from mlopsd.worker.process import InitMessage, ProcessWorker
from mlopsd.worker.thread import ThreadWorker
from mlopsd.worker.worker import Recorder, Worker


def make_worker(
    configured: ProbeConfig,
    state_dir: Path,
    board: Board,
    recorder: Recorder,
    log: logging.Logger,
    *,
    request_check: Callable[[], None] = lambda: None,
    private_paths: Callable[[], Sequence[Path]] = tuple,
) -> Worker:
    """Return the worker of *configured*, which makes the probe at the latest at the first check.

    Args:
        configured: The probe.
        state_dir: The probe's own folder.
        board: The board, for the probe's context.
        recorder: The recorder of the probe's counters and histograms.
        log: The log for lines that the probe's process prints.
        request_check: Requests a check soon; for a probe on the loop.
        private_paths: Returns the paths that the probe must hide from third-party code.

    Raises:
        ValueError: One of its metrics is declared already, with another meaning.
    """
    name = configured.name
    probe_log = logging.getLogger(f"mlopsd.probe.{name}")
    declared = configured.probe.declares(configured.options)
    instruments = recorder.instruments(name, configured.plugin.name, declared)
    if configured.isolation == "process":
        opening = InitMessage(
            name,
            configured.plugin.target,
            configured.table,
            state_dir,
            probe_log.getEffectiveLevel(),
            configured.terms.timeout,
            _longest_pause(configured.terms.interval),
        )
        return ProcessWorker(opening, declared, instruments, lambda: recorder.worker_restarted(name), log)
    context = Context(
        name,
        state_dir,
        probe_log,
        Readings(board),
        instruments,
        configured.terms.timeout,
        request_check,
        lambda facts: board.show(name, facts),
        private_paths,
    )

    def make() -> Probe[Any]:
        return configured.probe(configured.options, context)

    return ThreadWorker(name, make) if configured.isolation == "thread" else LoopWorker(name, make)


def _longest_pause(interval: float) -> float:
    """Return the longest pause between two starts: one interval, so that a recovery shows soon."""
    return min(max(interval, FIRST), LONGEST)
