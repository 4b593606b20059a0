"""Software RAID (md): arrays that run with fewer disks than they should."""

from pathlib import Path

from mlopsd.probe import Advice, Finding, Metric, Reading, Status
from mlopsd_probes.system.collector import HostCollector
from mlopsd_probes.system.options import SystemOptions

MISSING = Metric("md_disks_missing", "Disks that the array lacks.", labels=("device",))
REBUILDS = ("recover", "reshape", "resync")


class Arrays(HostCollector):
    """The arrays of ``/sys/block/md*``; RAID 0 and linear have no spare disk to lose and are not judged."""

    name = "md_arrays"
    source = "/sys/block"
    may_be_absent = True
    findings = ("md_arrays",)
    metrics = (MISSING,)

    def __init__(self, _options: SystemOptions, sys: Path = Path("/sys")) -> None:
        self._block = sys / "block"

    def collect(self) -> Reading:
        """Return a finding for each array; an empty reading without arrays."""
        arrays = [folder for folder in sorted(self._block.glob("md*")) if (folder / "md/degraded").exists()]
        missing = {array: int((array / "md/degraded").read_text()) for array in arrays}
        samples = [MISSING.sample(number, device=array.name) for array, number in missing.items()]
        return Reading([_judge(array, number) for array, number in missing.items()], samples)


def _judge(array: Path, missing: int) -> Finding:
    """Judge one array by the number of its *missing* disks; name those that failed."""
    disks = (array / "md/raid_disks").read_text().split()[0]
    if not missing:
        return Finding("md_arrays", Status.HEALTHY, f"{array.name} has all its {disks} disks", array.name)
    faulty = ", ".join(_faulty(array))
    cause = f"; failed: {faulty}" if faulty else ""
    summary = f"{array.name} runs with {int(disks) - missing} of {disks} disks{cause}"
    action = (array / "md/sync_action").read_text().strip()
    if action in REBUILDS:
        summary = f"{summary}; it is being rebuilt"
        return Finding("md_arrays", Status.DEGRADED, summary, array.name, missing, advice=Advice.WATCH)
    advice = Advice.REPLACE_HARDWARE if faulty else Advice.CHECK_HARDWARE
    return Finding("md_arrays", Status.DEGRADED, summary, array.name, missing, advice=advice)


def _faulty(array: Path) -> list[str]:
    """Return the names of the disks that md marked as faulty."""
    states = sorted((array / "md").glob("dev-*/state"))
    return [file.parent.name.removeprefix("dev-") for file in states if "faulty" in file.read_text()]
