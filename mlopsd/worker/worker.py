"""The contracts of a watch: the worker that runs a probe's checks, and the recorder of metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from mlopsd.entry import Entry
from mlopsd.predictor import Predictor, PredictorOptions
from mlopsd.probe import Instruments, Metric, Reading, Route

if TYPE_CHECKING:
    from mlopsd.worker.loop_use import LoopUse  # imports asyncio, which a child does not need


class Worker(Protocol):
    """The worker of one probe. It runs one call at a time; only a reload on the loop may run during a check.

    The watch ensures that. A cancelled call returns at once:

    - The worker ends the call if it can.
    - If it cannot, `stuck` reports it.
    - A process that is still starting continues, for the next call.
    """

    @property
    def loop_use(self) -> LoopUse | None:
        """Return the measurement of its steps on the event loop. A process has none."""

    @property
    def predictor(self) -> Predictor | None:
        """Return the probe itself if it predicts and has been made. Only a worker on the loop has one."""

    @property
    def routes(self) -> Sequence[Route] | None:
        """Return the probe's own HTTP routes, or None before it was made. A process has none."""

    @property
    def stuck(self) -> str | None:
        """Return why no call can start now (an abandoned one has not returned), or None."""

    def prepare(self) -> None:
        """Start what the first check would otherwise wait for."""

    async def check(self) -> Reading:
        """Run one check."""

    async def reload(self, *, dry_run: bool, force: bool) -> str:
        """Run the probe's reload and return its sentence."""

    async def reconfigure(self, options: PredictorOptions) -> bool:
        """Apply *options* to a predictor, and return whether it did."""

    async def close(self) -> None:
        """Close the probe within a second, even if it hangs."""


class Recorder(Protocol):
    """The recorder of checks and workers, for Prometheus."""

    def checked(self, probe: str, result: str, seconds: float) -> None:
        """Record that a check ended as *result* after *seconds*."""

    def recorded(self, entry: Entry) -> None:
        """Take the samples of *entry*, and log the rejected ones at once."""

    def hung(self, probe: str, *, hung: bool) -> None:
        """Record whether a call of *probe* that exceeded its timeout is still running."""

    def worker_restarted(self, probe: str) -> None:
        """Record that the process of *probe* was started again."""

    def instruments(self, probe: str, plugin: str, declared: Sequence[Metric]) -> Instruments:
        """Return the counters and histograms among *declared* for *probe*.

        Raises:
            ValueError: A metric is declared already, with another meaning.
        """


class WorkerDied(Exception):
    """The error of a probe's process that ended by itself: "its process was killed by SIGSEGV"."""


class InvalidReading(Exception):
    """The error of a probe that returned an invalid reading."""


class ProbeRaised(Exception):
    """The exception of a probe in its process, with that process's *traceback*."""

    def __init__(self, error_type: str, text: str, traceback: str) -> None:
        super().__init__(f"{error_type}: {text}" if text else error_type)
        self.traceback = traceback


CLOSING_SECONDS = 0.5  # seconds for a probe's own close(); the whole stop of the daemon takes 2 s
UNKILLABLE = "stuck in a system call, and if it stays only a reboot ends it"
