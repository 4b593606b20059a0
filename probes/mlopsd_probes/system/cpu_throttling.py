"""CPUs that slow down because they are hot."""

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from mlopsd.format import format_duration, format_ratio
from mlopsd.probe import Advice, Metric, Reading
from mlopsd_probes.limits import Limits
from mlopsd_probes.system.collector import HostCollector
from mlopsd_probes.system.growth import Growth
from mlopsd_probes.system.options import SystemOptions

THROTTLED = Metric(
    "cpu_throttled_seconds_total",
    "Time for which the CPU package slowed down because of its temperature.",
    kind="counter",
    unit="seconds",
    labels=("package",),
)
WINDOW = 600.0  # seconds


class CpuThrottling(HostCollector):
    """Thermal throttling of each CPU package, which Intel's CPUs count (Linux 5.5)."""

    name = "cpu_throttling"
    source = "/sys/devices/system/cpu"
    may_be_absent = True
    findings = ("cpu_throttling",)
    metrics = (THROTTLED,)

    def __init__(
        self,
        options: SystemOptions,
        sys: Path = Path("/sys"),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = Limits(options.cpu_throttled_limit)
        self._cpus = sys / "devices/system/cpu"
        self._growth: Growth[str] = Growth(WINDOW, clock)

    def collect(self) -> Reading:
        """Return a finding for each package; an empty reading if no CPU counts the time."""
        milliseconds: dict[str, int] = {}
        for cpu in self._cpus.glob("cpu[0-9]*"):
            with suppress(FileNotFoundError):  # a CPU that is offline, or does not count
                package = (cpu / "topology/physical_package_id").read_text().strip()
                time_of = int((cpu / "thermal_throttle/package_throttle_total_time_ms").read_text())
                milliseconds[package] = max(time_of, milliseconds.get(package, 0))
        growth = self._growth.of(milliseconds)
        samples = [THROTTLED.sample(value / 1000, package=name) for name, value in milliseconds.items()]
        shares = {name: grown / 1000 / WINDOW for name, grown in growth.items()}
        findings = [
            self._limits.finding(
                "cpu_throttling",
                f"CPU package {name} was too hot for its full speed in {format_ratio(share)} "
                f"of the last {format_duration(WINDOW)}",
                share,
                unit="ratio",
                text=format_ratio,
                advice=Advice.CHECK_HARDWARE,
                subject=f"package {name}",
            )
            for name, share in sorted(shares.items())
        ]
        return Reading(findings, samples)
