"""Memory that is available to programs."""

from collections.abc import Callable
from typing import Any

import psutil

from mlopsd.format import format_ratio, format_size
from mlopsd.probe import Advice, Metric, Reading
from mlopsd_probes.limits import Limits
from mlopsd_probes.system.collector import HostCollector
from mlopsd_probes.system.options import SystemOptions

TOTAL = Metric("memory_total_bytes", "Memory of the host (MemTotal).", unit="bytes")
AVAILABLE = Metric(
    "memory_available_bytes", "Memory that programs can have without swapping (MemAvailable).", unit="bytes"
)


class HostMemory(HostCollector):
    """The host's memory (``psutil.virtual_memory``), whatever a cgroup allows this process."""

    name = "memory_available"
    source = "/proc/meminfo"
    findings = ("memory_available",)
    metrics = (TOTAL, AVAILABLE)

    def __init__(self, options: SystemOptions, read: Callable[[], Any] = psutil.virtual_memory) -> None:
        self._limits = Limits(
            options.memory_available_degraded, options.memory_available_unhealthy, floor=True
        )
        self._enough = options.memory_available_enough
        self.read = read

    def collect(self) -> Reading:
        """Judge available memory as a share of the total, unless the absolute amount is enough."""
        memory = self.read()
        ratio = memory.available / memory.total
        limits = self._limits if memory.available < self._enough else Limits()
        available, total = format_size(memory.available), format_size(memory.total)
        finding = limits.finding(
            "memory_available",
            f"{available} of {total} memory is available ({format_ratio(ratio)})",
            ratio,
            unit="ratio",
            text=format_ratio,
            advice=Advice.FREE_RESOURCES,
        )
        samples = [TOTAL.sample(memory.total), AVAILABLE.sample(memory.available)]
        return Reading([finding], samples, {"memory_total_bytes": memory.total})
