"""The number of tasks that run or wait, per CPU."""

from collections.abc import Callable

import psutil

from mlopsd.probe import Advice, Finding, Metric, Reading, Status
from mlopsd_probes.limits import Limits
from mlopsd_probes.system.collector import HostCollector
from mlopsd_probes.system.options import SystemOptions

CPUS = Metric("cpus", "Logical CPUs that are online.")
LOAD = Metric(
    "load_average",
    "Tasks that ran, waited for a CPU or slept uninterruptibly, averaged over the window.",
    labels=("window",),
)
WINDOWS = ("1m", "5m", "15m")


class Load(HostCollector):
    """The load averages (``getloadavg(3)``); the one over 5 minutes is judged, per online CPU."""

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
        """Return the three averages, judged per CPU."""
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
            advice=Advice.WATCH,
        )
        return Reading([finding], [*samples, CPUS.sample(cpus)])


def _uncounted(load: float) -> Finding:
    """Return the finding for an unknown number of CPUs."""
    where = "neither /sys/devices/system/cpu/online nor /proc/cpuinfo says how many CPUs there are"
    summary = f"cannot judge the load over 5 min ({load:.3g}): {where}"
    return Finding("load", Status.UNKNOWN, summary, advice=Advice.WATCH)
