"""The choice of the worker for a configured probe."""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mlopsd.board import Board, Readings
from mlopsd.code_version import CodeVersion
from mlopsd.config.probes import ProbeConfig
from mlopsd.probe import Context, make_probe
from mlopsd.process.backoff import FIRST, LONGEST
from mlopsd.worker.loop import LoopWorker
from mlopsd.worker.mask import SecretMask
from mlopsd.worker.process import InitMessage, ProcessWorker
from mlopsd.worker.thread import ThreadWorker
from mlopsd.worker.validate import plain_facts
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
    declared = configured.metrics
    instruments = recorder.instruments(configured.name, configured.plugin.name, declared)
    if configured.isolation == "process":
        restarted = partial(recorder.worker_restarted, configured.name)
        return ProcessWorker(_init_message(configured, state_dir), declared, instruments, restarted, log)
    name, timeout, mask = configured.name, configured.terms.timeout, SecretMask.of([configured.options])
    show = _show_masked(board, name, mask)
    context = Context(
        name, state_dir, _log(name), Readings(board), instruments, timeout, request_check, show, private_paths
    )
    own = configured.options.model_copy(deep=True)  # a probe may change its lists, and a reload compares them
    kind = ThreadWorker if configured.isolation == "thread" else LoopWorker
    return kind(name, lambda: make_probe(configured.probe, own, context), mask)


def _show_masked(board: Board, name: str, mask: SecretMask) -> Callable[[Mapping[str, Any]], None]:
    """Return a function that shows facts of the probe *name* without its secrets."""
    return lambda facts: board.show(name, mask.plain(plain_facts(facts)))


def _init_message(configured: ProbeConfig, state_dir: Path) -> InitMessage:
    return InitMessage(
        configured.name,
        configured.plugin.target,
        configured.table,
        state_dir,
        _log(configured.name).getEffectiveLevel(),
        configured.terms.timeout,
        _longest_pause(configured.terms.interval),
        (configured.code, CodeVersion("mlopsd", version("mlopsd"))),
    )


def _log(name: str) -> logging.Logger:
    return logging.getLogger(f"mlopsd.probe.{name}")


def _longest_pause(interval: float) -> float:
    """Return the longest pause between two starts: one interval, so that a recovery shows soon."""
    return min(max(interval, FIRST), LONGEST)
