"""Reads and writes of the disks."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil

from mlopsd.probe import Metric, Reading
from mlopsd_probes.system.collector import HostCollector
from mlopsd_probes.system.options import SystemOptions

READ = Metric(
    "disk_read_bytes_total", "Read from the disk.", kind="counter", unit="bytes", labels=("device",)
)
WRITTEN = Metric(
    "disk_written_bytes_total", "Written to the disk.", kind="counter", unit="bytes", labels=("device",)
)
BUSY = Metric(
    "disk_busy_seconds_total",
    "Time in which the disk had a request in flight.",
    kind="counter",
    unit="seconds",
    labels=("device",),
)
MILLISECONDS = 1000


class DiskIO(HostCollector):
    """Counters of the whole disks that are hardware: no partitions, no loops, no mappings."""

    name = "disk_io"
    source = "/proc/diskstats"
    may_be_absent = True
    metrics = (READ, WRITTEN, BUSY)

    def __init__(
        self,
        options: SystemOptions,
        read: Callable[..., Mapping[str, Any]] = psutil.disk_io_counters,
        sys: Path = Path("/sys"),
    ) -> None:
        self._read = read
        self._blocks = sys / "block"

    def collect(self) -> Reading:
        """Return three samples per disk."""
        samples = []
        for device, counters in self._read(perdisk=True).items():
            if (self._blocks / device / "device").exists():
                samples.append(READ.sample(counters.read_bytes, device=device))
                samples.append(WRITTEN.sample(counters.write_bytes, device=device))
                samples.append(BUSY.sample(counters.busy_time / MILLISECONDS, device=device))
        return Reading(samples=samples)
