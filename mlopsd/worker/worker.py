"""The contracts of a watch: the place where a probe's checks run, and the place where both count."""

from collections.abc import Sequence
from typing import Protocol

from mlopsd.predictor import Predictor, PredictorOptions
from mlopsd.probe import Instruments, Metric, Reading, Route


class Worker(Protocol):
    """Runs the calls of one probe, one at a time; only a reload on the loop goes on beside a check.

    The watch sees to that. A call that is cancelled returns at once: what can be ended is ended, what
    cannot is what `stuck` tells of; only what is still starting may go on, for the next call.
    """

    @property
    def predictor(self) -> Predictor | None:
        """Return the probe itself if it predicts and has been made, for which the loop is the only place."""

    @property
    def routes(self) -> Sequence[Route] | None:
        """Return the probe's own HTTP routes; None until it has been made. A process has none."""

    @property
    def stuck(self) -> str | None:
        """Return why no call can begin now (an abandoned one has not come back), or None."""

    def prepare(self) -> None:
        """Begin whatever the first check would otherwise have to wait for."""

    async def check(self) -> Reading:
        """Run one check."""

    async def reload(self, *, dry_run: bool, force: bool) -> str:
        """Run the probe's reload and return its sentence."""

    async def reconfigure(self, options: PredictorOptions) -> bool:
        """Let a predictor go on with *options*; return if it does."""

    async def close(self) -> None:
        """Release the probe within a second, whatever it is stuck in."""


class Recorder(Protocol):
    """Records what happens to probes, for Prometheus."""

    def checked(self, probe: str, result: str, seconds: float) -> None:
        """Record that a check ended as *result* after *seconds*."""

    def hung(self, probe: str, hung: bool) -> None:  # noqa: FBT001  # a gauge's value
        """Record if a call of *probe* outlived its time and has not come back."""

    def worker_restarted(self, probe: str) -> None:
        """Record that the process of *probe* was started again."""

    def instruments(self, probe: str, plugin: str, declared: Sequence[Metric]) -> Instruments:
        """Return the counters and histograms among *declared* for *probe*; a ValueError if one clashes."""


class WorkerDied(Exception):
    """The process of a probe ended by itself, with the way it went: "its process was killed by SIGSEGV"."""


class InvalidReading(Exception):
    """A probe returned something that is no reading."""


class ProbeRaised(Exception):
    """A probe raised in its process; *traceback* is that process' own."""

    def __init__(self, kind: str, text: str, traceback: str) -> None:
        super().__init__(f"{kind}: {text}" if text else kind)
        self.traceback = traceback


CLOSING_SECONDS = 0.5  # for a probe's own close(); stopping the daemon takes 2 s in all
