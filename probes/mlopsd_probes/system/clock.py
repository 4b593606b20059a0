"""The synchronisation of the host's clock: tokens and certificates fail on a wrong one."""

import ctypes
import errno
import os
import time
from collections.abc import Callable
from typing import NamedTuple

from mlopsd.format import format_duration
from mlopsd.probe import Advice, Finding, Metric, Reading, Status
from mlopsd_probes.system.collector import HostCollector
from mlopsd_probes.system.options import SystemOptions

SYNCHRONISED = Metric("clock_synchronised", "1 if a time service keeps the clock synchronised, else 0.")
MAX_ERROR = Metric(
    "clock_max_error_seconds", "Largest error of the clock that the kernel assumes.", unit="seconds"
)
STA_UNSYNC = 0x40  # linux/timex.h


class Clock(NamedTuple):
    """The kernel's view of its clock; *max_error* is in seconds."""

    is_synchronised: bool
    max_error: float


class _Timex(ctypes.Structure):
    """The head of ``struct timex``; the kernel fills all 208 bytes."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),  # microseconds
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    )


def read_clock() -> Clock:
    """Return the state of the clock by ``adjtimex``, which needs no privilege to read.

    Raises:
        NotImplementedError: a filter of system calls forbids it.
        OSError: the call failed.
    """
    timex = _Timex()
    if ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex)) < 0:
        number = ctypes.get_errno()
        if number in (errno.EPERM, errno.ENOSYS):
            raise NotImplementedError("the system call adjtimex is forbidden")
        raise OSError(number, os.strerror(number))
    return Clock(not timex.status & STA_UNSYNC, timex.maxerror / 1e6)


class ClockSynchronisation(HostCollector):
    """The time service that keeps the clock synchronised; it has minutes for it after a start."""

    name = "clock"
    source = "adjtimex"
    may_be_absent = True
    findings = ("clock",)
    metrics = (SYNCHRONISED, MAX_ERROR)

    def __init__(
        self,
        options: SystemOptions,
        read: Callable[[], Clock] = read_clock,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._patience = options.clock_unsynchronised_after
        self._read = read
        self._clock = clock
        self._since: float | None = None

    def collect(self) -> Reading:
        """Return the finding, and the kernel's numbers."""
        found, now = self._read(), self._clock()
        self._since = None if found.is_synchronised else (now if self._since is None else self._since)
        lasted = 0.0 if self._since is None else now - self._since
        samples = [SYNCHRONISED.sample(found.is_synchronised), MAX_ERROR.sample(found.max_error)]
        return Reading([self._judge(found, lasted)], samples)

    def _judge(self, found: Clock, lasted: float) -> Finding:
        """Judge a clock that has been unsynchronised for *lasted* seconds while the probe looked."""
        if found.is_synchronised:
            return Finding("clock", Status.HEALTHY, "the clock is synchronised")
        fact = f"no time service has synchronised the clock for {format_duration(lasted)}"
        if lasted < self._patience:
            return Finding("clock", Status.HEALTHY, fact, None, lasted, "seconds", self._patience)
        return Finding(
            "clock",
            Status.DEGRADED,
            f"{fact}; start chrony, ntpd or systemd-timesyncd on this host, and see if it reaches its server",
            observed=lasted,
            unit="seconds",
            limit=self._patience,
            advice=Advice.FIX_CONFIG,
        )
