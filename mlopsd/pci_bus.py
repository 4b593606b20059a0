"""NVIDIA's GPUs on the PCI bus, as sysfs shows them: without a driver, and without a call to it."""

import contextlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

NVIDIA = "0x10de"
DISPLAY = "0x03"  # the base class: VGA, XGA, 3D and other display controllers
OURS = frozenset({"nvidia", ""})  # NVML cannot see a card of vfio-pci or nouveau

Device = tuple[str, int]  # its address and the inode of its folder


class PciBus:
    """The PCI bus as sysfs shows it.

    A host of eight GPUs has hundreds of devices. Reading each of them would take longer than the rest of a
    check, so each is read only once. *known* has the devices by address and inode, which change with another
    device in the same slot.
    """

    def __init__(self, sysfs: Path) -> None:
        self._devices = sysfs / "bus/pci/devices"
        self.known: dict[Device, bool] = {}
        self._gpus: dict[str, str] = {}  # the link to each driver, by address

    def cards(self) -> Mapping[str, str]:
        """Return the driver ("" for none) of each NVIDIA GPU that NVML should see, by PCI address.

        The result is empty if sysfs shows no PCI devices.
        """
        listed = self._listed()
        if listed != self.known.keys():
            self._classify(listed)
        drivers = {address: _driver(link) for address, link in self._gpus.items()}
        return {address: driver for address, driver in drivers.items() if driver in OURS}

    def _listed(self) -> set[Device]:
        try:
            with os.scandir(self._devices) as entries:
                return {(entry.name, entry.inode()) for entry in entries}
        except OSError:
            return set()

    def _classify(self, listed: Iterable[Device]) -> None:
        """Read each new device; skip a device that disappears meanwhile."""
        before, self.known = self.known, {}
        for device in sorted(listed):
            with contextlib.suppress(OSError):
                known = before.get(device)
                self.known[device] = _is_gpu(self._devices / device[0]) if known is None else known
        gpus = (address for (address, _), is_gpu in self.known.items() if is_gpu)
        self._gpus = {address: f"{self._devices}/{address}/driver" for address in gpus}


def _is_gpu(device: Path) -> bool:
    vendor = (device / "vendor").read_text("ascii").strip()
    is_display = vendor == NVIDIA and (device / "class").read_text("ascii").startswith(DISPLAY)
    return is_display and not (device / "physfn").exists()  # a virtual function belongs to a guest


def _driver(link: str) -> str:
    """Return the name of the driver; without a Path, which would intern its parts at each check."""
    try:
        return os.readlink(link).rpartition("/")[2]  # noqa: PTH115  # a Path would intern it
    except OSError:
        return ""
