"""The identity of the machine and its boot time."""

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime

import psutil

from mlopsd.format import format_time
from mlopsd.probe import Metric, Reading
from mlopsd_probes.system.collector import HostCollector
from mlopsd_probes.system.options import SystemOptions

BOOTED = Metric("boot_timestamp_seconds", "Unix time at which the host booted.", unit="seconds")


class HostInfo(HostCollector):
    """The host's names and times; nothing is judged.

    The kernel computes the boot time from the clock (``btime`` in ``/proc/stat``), so it changes when the
    clock is set. The uptime (``CLOCK_BOOTTIME``) does not.
    """

    name = "host"
    source = "/proc/stat"
    metrics = (BOOTED,)

    def __init__(self, _options: SystemOptions, boot_time: Callable[[], float] = psutil.boot_time) -> None:
        self._boot_time = boot_time

    def collect(self) -> Reading:
        """Return facts, and the boot time as a sample."""
        booted, system = self._boot_time(), os.uname()
        facts = {
            "hostname": system.nodename,
            "kernel": system.release,
            "boot_time": format_time(datetime.fromtimestamp(booted, UTC)),
            "uptime_seconds": round(time.clock_gettime(time.CLOCK_BOOTTIME)),
        }
        return Reading(samples=[BOOTED.sample(booted)], facts=facts)
