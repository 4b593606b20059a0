"""Available memory, swap space, and the traffic to and from swap."""

import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from mlopsd.format import format_ratio, format_size
from mlopsd.probe import Advice, Metric, Reading
from mlopsd_probes.cgroup import tightest_memory
from mlopsd_probes.limits import Limits
from mlopsd_probes.system.collector import HostCollector
from mlopsd_probes.system.options import SystemOptions

TOTAL = Metric("memory_total_bytes", "Memory of the host (MemTotal).", unit="bytes")
AVAILABLE = Metric(
    "memory_available_bytes", "Memory available to programs without swapping (MemAvailable).", unit="bytes"
)
SWAP_TOTAL = Metric("swap_total_bytes", "Swap space of the host (SwapTotal).", unit="bytes")
SWAP_FREE = Metric("swap_free_bytes", "Swap space that is not used (SwapFree).", unit="bytes")
SWAPPED_IN = Metric(
    "swapped_in_bytes_total", "Bytes read from swap since boot.", kind="counter", unit="bytes"
)
SWAPPED_OUT = Metric(
    "swapped_out_bytes_total", "Bytes written to swap since boot.", kind="counter", unit="bytes"
)
CGROUP_USED = Metric(
    "cgroup_memory_bytes",
    "Memory of the daemon's tightest control group, without droppable cache.",
    unit="bytes",
)
CGROUP_LIMIT = Metric("cgroup_memory_limit_bytes", "Memory that this group may use.", unit="bytes")
OOM_KILLS = Metric(
    "oom_kills_total",
    "Processes that the kernel killed because the host or a cgroup ran out of memory.",
    kind="counter",
)


class HostMemory(HostCollector):
    """The host's memory (``psutil.virtual_memory``), regardless of this process's cgroup."""

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


class CgroupMemory(HostCollector):
    """The memory of the daemon's control group, in which its models run, if it has a limit."""

    name = "cgroup_memory"
    source = "/sys/fs/cgroup"
    may_be_absent = True
    findings = ("cgroup_memory",)
    metrics = (CGROUP_USED, CGROUP_LIMIT)

    def __init__(self, options: SystemOptions, proc: Path = Path("/proc"), sys: Path = Path("/sys")) -> None:
        self._limits = Limits(options.cgroup_memory_degraded, options.cgroup_memory_unhealthy)
        self._folders = (proc, sys)

    def collect(self) -> Reading:
        """Judge the group with the least left, of the daemon's group and those above it."""
        use = tightest_memory(*self._folders)
        if use is None:
            return Reading()
        ratio = use.used / use.limit if use.limit else 1.0
        finding = self._limits.finding(
            "cgroup_memory",
            f"{format_size(use.used)} of the {format_size(use.limit)} that the daemon's control group "
            f"allows are used ({format_ratio(ratio)})",
            ratio,
            unit="ratio",
            text=format_ratio,
            advice=Advice.FREE_RESOURCES,
        )
        return Reading([finding], [CGROUP_USED.sample(use.used), CGROUP_LIMIT.sample(use.limit)])


class Swap(HostCollector):
    """Used swap (``psutil.swap_memory``), judged only while memory is short as well."""

    name = "swap_used"
    source = "/proc/meminfo"
    may_be_absent = True
    findings = ("swap_used",)
    metrics = (SWAP_TOTAL, SWAP_FREE)

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
        """Return the used swap; an empty reading on a host without swap."""
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
        return Reading([finding], [SWAP_TOTAL.sample(swap.total), SWAP_FREE.sample(swap.free)])


class Paging(HostCollector):
    """Three counters of ``/proc/vmstat``.

    OOM kills are not judged, since they include those of containers at their own limit.
    """

    name = "paging"
    source = "/proc/vmstat"
    metrics = (SWAPPED_IN, SWAPPED_OUT, OOM_KILLS)

    def __init__(self, _options: SystemOptions, proc: Path = Path("/proc")) -> None:
        self._vmstat = proc / "vmstat"
        page = resource.getpagesize()
        self._fields = {
            "pswpin": (SWAPPED_IN, page),
            "pswpout": (SWAPPED_OUT, page),
            "oom_kill": (OOM_KILLS, 1),
        }

    def collect(self) -> Reading:
        """Return the counters that this kernel has."""
        samples = []
        for line in self._vmstat.read_text().splitlines():
            field, _, value = line.partition(" ")
            if field in self._fields:
                metric, factor = self._fields[field]
                samples.append(metric.sample(int(value) * factor))
        return Reading(samples=samples)
