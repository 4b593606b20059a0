"""The time that the CPUs spend in each mode."""

from collections.abc import Callable
from typing import Any

import psutil

from mlopsd.format import format_ratio
from mlopsd.probe import Advice, Metric, Reading
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
        """Return the time of each mode; from the second check on also the use."""
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
        """Return the times now, none less than at the last check: idle and iowait may jump back (proc(5))."""
        times = self._read()
        now = {mode: getattr(times, mode) for mode in MODES if hasattr(times, mode)}
        self._last = {mode: max(seconds, self._last.get(mode, 0.0)) for mode, seconds in now.items()}
        return self._last


def _busy_ratio(before: Times, now: Times) -> float | None:
    """Return the busy share between two checks; None at the first, or if no tick passed."""
    passed = {mode: now[mode] - before[mode] for mode in now if mode in before}
    total = sum(passed.values())
    if total <= 0:
        return None
    return 1 - sum(passed.get(mode, 0.0) for mode in AT_REST) / total
