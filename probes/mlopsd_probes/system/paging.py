"""Traffic to and from swap, and kills for lack of memory."""

import resource
from pathlib import Path

from mlopsd.probe import Metric, Reading
from mlopsd_probes.system.collector import HostCollector
from mlopsd_probes.system.options import SystemOptions

SWAPPED_IN = Metric("swapped_in_bytes_total", "Read from swap since boot.", kind="counter", unit="bytes")
SWAPPED_OUT = Metric("swapped_out_bytes_total", "Written to swap since boot.", kind="counter", unit="bytes")
OOM_KILLS = Metric(
    "oom_kills_total",
    "Processes that the kernel killed for want of memory, cgroups' included.",
    kind="counter",
)


class Paging(HostCollector):
    """Three counters of ``/proc/vmstat``.

    An OOM kill is counted and not judged: a container that hits its own limit is counted too.
    """

    name = "paging"
    source = "/proc/vmstat"
    metrics = (SWAPPED_IN, SWAPPED_OUT, OOM_KILLS)

    def __init__(self, options: SystemOptions, proc: Path = Path("/proc")) -> None:
        self._vmstat = proc / "vmstat"
        page = resource.getpagesize()
        self._fields = {
            "pswpin": (SWAPPED_IN, page),
            "pswpout": (SWAPPED_OUT, page),
            "oom_kill": (OOM_KILLS, 1),
        }

    def collect(self) -> Reading:
        """Return those of the counters that this kernel has."""
        samples = []
        for line in self._vmstat.read_text().splitlines():
            field, _, value = line.partition(" ")
            if field in self._fields:
                metric, factor = self._fields[field]
                samples.append(metric.sample(int(value) * factor))
        return Reading(samples=samples)
