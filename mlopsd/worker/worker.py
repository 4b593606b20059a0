"""What a watch asks of the place where a probe's checks run, whichever of the three it is."""

from typing import Protocol

from mlopsd.probe import Reading


class Worker(Protocol):
    """Runs the calls of one probe, one at a time; only a reload on the loop goes on beside a check.

    The watch sees to that. A call that is cancelled returns at once: what can be ended is ended, what
    cannot is what `stuck` tells of; only what is still starting may go on, for the next call.
    """

    @property
    def stuck(self) -> str | None:
        """Why no call can begin now (an abandoned one has not come back), or None."""

    def prepare(self) -> None:
        """Begin whatever the first check would otherwise have to wait for."""

    async def check(self) -> Reading:
        """Run one check."""

    async def reload(self, *, dry_run: bool, force: bool) -> str:
        """Run the probe's reload and return its sentence."""

    async def close(self) -> None:
        """Release the probe within a second, whatever it is stuck in."""


class WorkerDied(Exception):
    """The process of a probe ended by itself, with the way it went: "its process was killed by SIGSEGV"."""


class InvalidReading(Exception):
    """A probe returned something that is no reading."""


CLOSING_SECONDS = 0.5  # for a probe's own close(); stopping the daemon takes 2 s in all
