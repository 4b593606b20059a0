"""Swap space, where there is any."""

from collections.abc import Callable
from typing import Any

import psutil

from mlopsd.format import format_ratio, format_size
from mlopsd.probe import Advice, Metric, Reading
from mlopsd_probes.limits import Limits
from mlopsd_probes.system.collector import HostCollector
from mlopsd_probes.system.options import SystemOptions

TOTAL = Metric("swap_total_bytes", "Swap space of the host (SwapTotal).", unit="bytes")
FREE = Metric("swap_free_bytes", "Swap space that is not used (SwapFree).", unit="bytes")


class Swap(HostCollector):
    """Used swap (``psutil.swap_memory``), a fault only while memory is short as well."""

    name = "swap_used"
    source = "/proc/meminfo"
    may_be_absent = True
    findings = ("swap_used",)
    metrics = (TOTAL, FREE)

    def __init__(
        self,
        options: SystemOptions,
        read: Callable[[], Any] = psutil.swap_memory,
        read_memory: Callable[[], Any] = psutil.virtual_memory,
    ) -> None:
        self._limits = Limits(options.swap_used_degraded, options.swap_used_unhealthy)
        self._short = options.swap_memory_short
        self._enough = options.memory_available_enough
        self._read = read
        self._read_memory = read_memory

    def collect(self) -> Reading:
        """Return the used swap; nothing on a host without swap."""
        swap = self._read()
        if not swap.total:
            return Reading()
        memory = self._read_memory()
        available = memory.available / memory.total
        is_short = available < self._short and memory.available < self._enough
        limits = self._limits if is_short else Limits()
        ratio = (swap.total - swap.free) / swap.total
        used = f"{format_ratio(ratio)} of {format_size(swap.total)} swap is used"
        finding = limits.finding(
            "swap_used",
            f"{used}, {format_ratio(available)} of memory available",
            ratio,
            unit="ratio",
            text=format_ratio,
            advice=Advice.FREE_RESOURCES,
        )
        return Reading([finding], [TOTAL.sample(swap.total), FREE.sample(swap.free)])
