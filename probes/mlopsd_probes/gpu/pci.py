"""The NVIDIA cards on the PCI bus, independent of the driver."""

import contextlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

NVIDIA = "0x10de"
DISPLAY = "0x03"  # the base class: VGA, XGA, 3D and other display controllers
OURS = frozenset({"nvidia", ""})  # a card that vfio-pci or nouveau has is not NVML's to see

Device = tuple[str, int]  # its address and the inode of its folder


class Bus:
    """The PCI bus as sysfs shows it.

    A host of eight GPUs has hundreds of devices, and to read what each of them is would take longer than all
    else in a check. So that is read once of each: *known* has it by address and inode, which a device that is
    put in another's place does not share.
    """

    def __init__(self, sysfs: Path) -> None:
        self._devices = sysfs / "bus/pci/devices"
        self.known: dict[Device, bool] = {}
        self._gpus: dict[str, str] = {}  # the link to the driver of each, by address

    def cards(self) -> Mapping[str, str]:
        """Return the driver by PCI address ("" for none) of each NVIDIA GPU that NVML ought to see.

        Empty where sysfs does not show PCI devices.
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
        """Read each new device; one that goes away meanwhile is gone, or read again at the next check."""
        before, self.known = self.known, {}
        for device in sorted(listed):
            with contextlib.suppress(OSError):
                known = before.get(device)
                self.known[device] = _is_gpu(self._devices / device[0]) if known is None else known
        gpus = (address for (address, _), is_gpu in self.known.items() if is_gpu)
        self._gpus = {address: f"{self._devices}/{address}/driver" for address in gpus}


def driver_load(sysfs: Path) -> str:
    """Return an id of this load of the driver: its folder's inode, which the kernel never reuses."""
    try:
        return str((sysfs / "module/nvidia").stat().st_ino)
    except OSError:
        return ""


def _is_gpu(device: Path) -> bool:
    vendor = (device / "vendor").read_text("ascii").strip()
    is_display = vendor == NVIDIA and (device / "class").read_text("ascii").startswith(DISPLAY)
    return is_display and not (device / "physfn").exists()  # a virtual function is for a guest


def _driver(link: str) -> str:
    """Return the name of the driver; a Path would intern its parts again at each check."""
    try:
        return os.readlink(link).rpartition("/")[2]  # noqa: PTH115
    except OSError:
        return ""
