"""The system probe: the resources of the host, except its GPUs."""

from collections.abc import Iterable
from itertools import chain

from mlopsd.probe import Context, Diagnosis, Probe, Reading, Schedule, Setup
from mlopsd_probes.collector import join
from mlopsd_probes.system import diagnosis
from mlopsd_probes.system.arrays import Arrays
from mlopsd_probes.system.clock import ClockSynchronisation
from mlopsd_probes.system.collector import HostCollector, is_empty
from mlopsd_probes.system.cpu import CpuUse, Load
from mlopsd_probes.system.cpu_throttling import CpuThrottling
from mlopsd_probes.system.disks import DiskIO, Disks
from mlopsd_probes.system.files import OpenFiles
from mlopsd_probes.system.gpus import NvidiaGpus
from mlopsd_probes.system.hardware_errors import InfinibandPorts, MemoryErrors, PcieErrors
from mlopsd_probes.system.host import HostInfo
from mlopsd_probes.system.memory import CgroupMemory, HostMemory, Paging, Swap
from mlopsd_probes.system.network import Network
from mlopsd_probes.system.options import TIMEOUT, SystemOptions
from mlopsd_probes.system.pids import Pids
from mlopsd_probes.system.pressure import Pressure
from mlopsd_probes.system.processes import StuckProcesses
from mlopsd_probes.system.temperature import HostTemperature

COLLECTORS: tuple[type[HostCollector], ...] = (
    HostInfo,
    CpuUse,
    Load,
    CpuThrottling,
    ClockSynchronisation,
    HostMemory,
    CgroupMemory,
    MemoryErrors,
    Swap,
    Paging,
    Pressure,
    Disks,
    DiskIO,
    Arrays,
    Network,
    InfinibandPorts,
    PcieErrors,
    OpenFiles,
    Pids,
    StuckProcesses,
    HostTemperature,
    NvidiaGpus,
)


class SystemProbe(Probe[SystemOptions]):
    """CPUs, memory, disks, links, files, pids, stuck processes, clock and temperatures of the host.

    It runs a row of collectors; a failed collector loses only its own findings and samples. A host may lack
    swap, PSI, sensors, disks, error counters: ``facts.absent`` names them, and this is no fault. The status
    is unknown if all other collectors read nothing.
    """

    Options = SystemOptions
    metrics = tuple(chain.from_iterable(kind.metrics for kind in COLLECTORS))
    schedule = Schedule(
        interval=15, timeout=TIMEOUT, fail_after=2, recover_after=2, isolation="process", critical=True
    )
    subject = ("paths", "stuck_ignored_commands", "temperature_ignored_chips")

    def __init__(self, options: SystemOptions, context: Context) -> None:
        super().__init__(options, context)
        self.collectors: tuple[HostCollector, ...] = tuple(kind(options) for kind in COLLECTORS)

    @classmethod
    def diagnose(cls, setup: Setup[SystemOptions]) -> Iterable[Diagnosis]:
        """Return whether the disks that mlopsd writes to are watched."""
        return diagnosis.diagnose(setup)

    def check(self) -> Reading:
        """Run each collector once and join the readings."""
        readings = {collector.name: collector.try_collect() for collector in self.collectors}
        absent = [name for name, reading in readings.items() if is_empty(reading)]
        absence = [Reading(facts={"absent": absent})] if absent else []
        return join([*readings.values(), *absence])
