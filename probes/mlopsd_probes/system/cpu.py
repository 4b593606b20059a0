"""The time of the CPUs in each mode, and the load averages."""

from collections.abc import Callable
from typing import Any

import psutil

from mlopsd.format import format_ratio
from mlopsd.probe import Advice, Finding, Metric, Reading, Status
from mlopsd_probes.limits import Limits
from mlopsd_probes.system.collector import HostCollector
from mlopsd_probes.system.options import SystemOptions

SECONDS = Metric(
    "cpu_seconds_total",
    "Time that all CPUs together spent in each mode; a guest's time is in user.",
    kind="counter",
    unit="seconds",
    labels=("mode",),
)
USE = Metric(
    "cpu_use_ratio", "Share of CPU time that was neither idle nor iowait since the last check.", unit="ratio"
)
MODES = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")  # guest is part of user
AT_REST = ("idle", "iowait")

Times = dict[str, float]
CPUS = Metric("cpus", "Logical CPUs that are online.")
LOAD = Metric(
    "load_average",
    "Tasks that ran, waited for a CPU or slept uninterruptibly, averaged over the window.",
    labels=("window",),
)
WINDOWS = ("1m", "5m", "15m")


class CpuUse(HostCollector):
    """CPU time since boot, and the busy share of it between two checks (``psutil.cpu_times``)."""

    name = "cpu_use"
    source = "/proc/stat"
    findings = ("cpu_use",)
    metrics = (SECONDS, USE)

    def __init__(self, options: SystemOptions, read: Callable[[], Any] = psutil.cpu_times) -> None:
        self._limits = Limits(options.cpu_use_degraded, options.cpu_use_unhealthy)
        self._read = read
        self._last: Times = {}

    def collect(self) -> Reading:
        """Return the time of each mode and, from the second check on, the use."""
        before, now = self._last, self._advance()
        samples = [SECONDS.sample(seconds, mode=mode) for mode, seconds in now.items()]
        ratio = _busy_ratio(before, now)
        if ratio is None:
            return Reading(samples=samples)
        fact = f"the CPUs are {format_ratio(ratio)} busy"
        finding = self._limits.finding(
            "cpu_use", fact, ratio, unit="ratio", text=format_ratio, advice=Advice.FREE_RESOURCES
        )
        return Reading([finding], [*samples, USE.sample(ratio)])

    def _advance(self) -> Times:
        """Return the present times, never less than the last: idle and iowait may decrease (proc(5))."""
        times = self._read()
        now = {mode: getattr(times, mode) for mode in MODES if hasattr(times, mode)}
        self._last = {mode: max(seconds, self._last.get(mode, 0.0)) for mode, seconds in now.items()}
        return self._last


def _busy_ratio(before: Times, now: Times) -> float | None:
    """Return the busy share between two checks; None at the first check, or if no tick passed."""
    passed = {mode: now[mode] - before[mode] for mode in now if mode in before}
    total = sum(passed.values())
    if total <= 0:
        return None
    return 1 - sum(passed.get(mode, 0.0) for mode in AT_REST) / total


class Load(HostCollector):
    """The load averages (``getloadavg(3)``); only the 5-minute load per online CPU is judged."""

    name = "load"
    source = "/proc/loadavg"
    findings = ("load",)
    metrics = (CPUS, LOAD)

    def __init__(
        self,
        options: SystemOptions,
        read: Callable[[], tuple[float, float, float]] = psutil.getloadavg,
        count_cpus: Callable[[], int | None] = psutil.cpu_count,
    ) -> None:
        self._limits = Limits(options.load_degraded, options.load_unhealthy)
        self._read = read
        self._count_cpus = count_cpus

    def collect(self) -> Reading:
        """Return the three averages; judge the 5-minute load per CPU."""
        loads = self._read()
        samples = [LOAD.sample(load, window=window) for window, load in zip(WINDOWS, loads, strict=True)]
        cpus = self._count_cpus()
        if cpus is None:
            return Reading([_uncounted(loads[1])], samples)
        each = loads[1] / cpus
        finding = self._limits.finding(
            "load",
            f"the load over 5 min is {loads[1]:.3g} on {cpus} CPUs ({each:.2g} for each)",
            each,
            unit="tasks per cpu",
            text="{:g} for each".format,
            advice=Advice.FREE_RESOURCES,
            mild=Advice.WATCH,
        )
        return Reading([finding], [*samples, CPUS.sample(cpus)])


def _uncounted(load: float) -> Finding:
    """Return the finding for an unknown number of CPUs."""
    where = "neither /sys/devices/system/cpu/online nor /proc/cpuinfo says how many CPUs there are"
    summary = f"cannot judge the load over 5 min ({load:.3g}): {where}"
    return Finding("load", Status.UNKNOWN, summary, advice=Advice.FIX_CONFIG)
