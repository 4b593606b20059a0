"""Builds the worker that the configuration wants for a probe."""

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
    """The worker of *configured*; its probe is made at its first check, in the place where it runs.

    *state_dir* is the probe's own folder, *log* takes what its process prints, *request_check* is called
    by a probe on the loop that wants to be checked soon, *private_paths* says what it keeps from a
    stranger's code.

    Raises:
        ValueError: one of its metrics means something else already.
    """
    name = configured.name
    its_log = logging.getLogger(f"mlopsd.probe.{name}")
    declared = configured.probe.declares(configured.options)
    instruments = recorder.instruments(name, configured.plugin.name, declared)
    if configured.isolation == "process":
        opening = InitMessage(
            name,
            configured.plugin.target,
            configured.table,
            state_dir,
            its_log.getEffectiveLevel(),
            configured.terms.timeout,
            _longest_pause(configured.terms.interval),
        )
        return ProcessWorker(opening, declared, instruments, lambda: recorder.worker_restarted(name), log)
    context = Context(
        name,
        state_dir,
        its_log,
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
    """One beat at most is without a process, or what heals by itself would be told minutes later."""
    return min(max(interval, FIRST), LONGEST)
