"""The benchmark's own probes, which run in a real daemon: some misbehave, one measures its event loop."""

import asyncio
import ctypes
import os
import time

from mlopsd.probe import Finding, Options, Probe, ProbeError, Reading, Schedule, Status

FINE = Reading(findings=[Finding("trouble", Status.HEALTHY, "it came back")])
LINE = b"x" * 1023 + b"\n"
STEP = 0.005


class TroubleOptions(Options):
    """*does* is the name of a method of `Trouble`."""

    does: str


class Trouble(Probe[TroubleOptions]):
    """Hangs, crashes or hogs at each check."""

    Options = TroubleOptions
    schedule = Schedule(interval=1, timeout=1, fail_after=1, recover_after=1, critical=True)
    _is_warned = False

    def check(self) -> Reading:
        """Cause the trouble that the options name."""
        getattr(self, self.options.does)()
        return FINE

    def hangs(self) -> None:
        """Never return."""
        time.sleep(3600)

    def hangs_when_asked_again(self) -> None:
        """Hang at the second check, so that the first reading comes from a process that is up."""
        if self._is_warned:
            time.sleep(3600)
        self._is_warned = True

    def exits(self) -> None:
        """End the process without Python's own end."""
        os._exit(7)

    def segfaults(self) -> None:
        """Read from address 0."""
        ctypes.string_at(0)

    def hogs(self) -> None:
        """Loop in pure Python, which takes the GIL again as soon as it must give it up."""
        end = time.monotonic() + 0.8
        while time.monotonic() < end:
            sum(range(1000))

    def holds(self) -> None:
        """Call C code that keeps the GIL, as a driver's binding may."""
        ctypes.PyDLL(None).usleep(500_000)

    def prints(self) -> None:
        """Print a gigabyte, or as much as is taken within the deadline."""
        for _ in range(1_000_000):
            os.write(1, LINE)


class LagOptions(Options):
    """The options: a check samples for *seconds*."""

    seconds: float = 3.0


class Lag(Probe[LagOptions]):
    """Measures how late the event loop wakes a sleeper, from within: its check is a task of the loop.

    The first check, which the daemon makes at its start, is over at once.
    """

    Options = LagOptions
    schedule = Schedule(interval=3600, timeout=60, fail_after=1, recover_after=1, critical=True)
    _asked = False

    async def check(self) -> Reading:
        """Return the lags of a few seconds; nothing at the first check."""
        if not self._asked:
            self._asked = True
            return FINE
        loop = asyncio.get_running_loop()
        lags, end = [], loop.time() + self.options.seconds
        while (began := loop.time()) < end:
            await asyncio.sleep(STEP)
            lags.append(round(loop.time() - began - STEP, 6))
        if not lags:
            raise ProbeError("cannot sample the lag: no time was given; set seconds")
        return Reading(findings=FINE.findings, facts={"lags": lags})
