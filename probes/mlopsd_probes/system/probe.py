"""The system probe: the resources of the host under the GPUs."""

import os.path
from itertools import chain

from mlopsd.probe import Advice, Context, Finding, Probe, Reading, Schedule, Status
from mlopsd_probes.system.cpu import CpuUse
from mlopsd_probes.system.disk_io import DiskIO
from mlopsd_probes.system.disks import Disks
from mlopsd_probes.system.files import OpenFiles
from mlopsd_probes.system.host import HostInfo
from mlopsd_probes.system.load import Load
from mlopsd_probes.system.look import HostCollector
from mlopsd_probes.system.memory import HostMemory
from mlopsd_probes.system.network import Network
from mlopsd_probes.system.options import TIMEOUT, SystemOptions
from mlopsd_probes.system.paging import Paging
from mlopsd_probes.system.pids import Pids
from mlopsd_probes.system.pressure import Pressure
from mlopsd_probes.system.processes import StuckProcesses
from mlopsd_probes.system.swap import Swap
from mlopsd_probes.system.temperature import HostTemperature

LOOKS: tuple[type[HostCollector], ...] = (
    HostInfo,
    CpuUse,
    Load,
    HostMemory,
    Swap,
    Paging,
    Pressure,
    Disks,
    DiskIO,
    Network,
    OpenFiles,
    Pids,
    StuckProcesses,
    HostTemperature,
)


class SystemProbe(Probe[SystemOptions]):
    """CPUs, memory, disks, files, pids, stuck processes and temperatures of the host.

    One row of looks; a look that fails takes nothing but its own findings and samples. What a host may
    lack (swap, PSI, sensors, disks, cards) is named in ``facts.absent`` and is no fault; without anything
    else this probe cannot tell.
    """

    Options = SystemOptions
    metrics = tuple(chain.from_iterable(look.metrics for look in LOOKS))
    schedule = Schedule(
        interval=15, timeout=TIMEOUT, fail_after=2, recover_after=2, isolation="process", critical=True
    )
    subject = ("paths", "stuck_ignored_commands", "temperature_ignored_chips")

    def __init__(self, options: SystemOptions, context: Context) -> None:
        super().__init__(options, context)
        self.looks: tuple[HostCollector, ...] = tuple(kind(options) for kind in LOOKS)

    def check(self) -> Reading:
        """Run each collector once and join the readings."""
        readings = {look.name: take(look) for look in self.looks}
        absent = [name for name, reading in readings.items() if is_empty(reading)]
        facts = {key: value for reading in readings.values() for key, value in reading.facts.items()}
        return Reading(
            [finding for reading in readings.values() for finding in reading.findings],
            [sample for reading in readings.values() for sample in reading.samples],
            {**facts, "absent": absent} if absent else facts,
        )


def take(look: HostCollector) -> Reading:
    """Return *look*'s reading: empty if its optional source is absent, ``unknown`` if unreadable."""
    try:
        reading = look.look()
    except (OSError, ValueError, LookupError, RuntimeError) as error:
        absent = look.may_be_absent and isinstance(error, FileNotFoundError | NotImplementedError)
        return Reading() if absent else unreadable(look, error)
    blank = is_empty(reading) and not look.may_be_absent
    return unreadable(look, ValueError("it says nothing")) if blank else reading


def unreadable(look: HostCollector, error: Exception) -> Reading:
    """Return one finding with the file and the cause."""
    file, cause = (error.filename, error.strerror) if isinstance(error, OSError) else (None, None)
    source = os.path.join(look.source, file) if isinstance(file, str) else look.source  # noqa: PTH118
    summary = f"cannot read {look.name} from {source}: {cause or error}"
    return Reading([Finding(look.name, Status.UNKNOWN, summary, advice=Advice.WATCH)])


def is_empty(reading: Reading) -> bool:
    """Return true if there was nothing to read."""
    return not (reading.findings or reading.samples or reading.facts)
