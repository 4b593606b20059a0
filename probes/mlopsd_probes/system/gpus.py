"""The number of NVIDIA GPUs that the host has, so that a host without a `gpu` probe shows."""

from pathlib import Path

from mlopsd.pci_bus import PciBus
from mlopsd.probe import Metric, Reading
from mlopsd_probes.container import is_container
from mlopsd_probes.system.collector import HostCollector
from mlopsd_probes.system.options import SystemOptions

GPUS = Metric("nvidia_gpus", "NVIDIA GPUs on the PCI bus that the NVIDIA driver may use.")


class NvidiaGpus(HostCollector):
    """NVIDIA GPUs by sysfs; nothing is judged, since the `gpu` probe does that.

    In a container it reports nothing: sysfs shows the host's GPUs, and the container may have none of them.
    """

    name = "nvidia_gpus"
    source = "/sys/bus/pci/devices"
    may_be_absent = True
    metrics = (GPUS,)

    def __init__(self, _options: SystemOptions, root: Path = Path("/")) -> None:
        self._root = root
        self._bus = PciBus(root / "sys")

    def collect(self) -> Reading:
        """Return the number of GPUs; nothing in a container, or if the host shows no PCI devices."""
        if is_container(self._root):
            return Reading()
        cards = self._bus.cards()
        return Reading(samples=[GPUS.sample(len(cards))] if self._bus.known else [])
