"""The NVIDIA cards on the PCI bus, whatever the driver says."""

import os
from collections.abc import Mapping
from pathlib import Path

NVIDIA = "0x10de"
DISPLAY = "0x03"  # the base class: VGA, XGA, 3D and other display controllers
OURS = frozenset({"nvidia", ""})  # a card that vfio-pci or nouveau has is not NVML's to see


class Bus:
    """The PCI bus as sysfs shows it.

    A host of eight GPUs has hundreds of devices, and to read what each of them is would take longer than all
    else in a check. So that is read once of each: *known* has it by address and inode, which a device that is
    put in another's place does not share.
    """

    def __init__(self, sysfs: Path) -> None:
        self.devices = sysfs / "bus/pci/devices"
        self.known: dict[tuple[str, int], bool] = {}

    def cards(self) -> Mapping[str, str]:
        """The driver by PCI address ("" for none) of each NVIDIA GPU that NVML ought to see.

        Empty where sysfs does not show PCI devices; one that goes away while it is looked at is gone.
        """
        found, known = {}, {}
        for address, inode in sorted(self._listed()):
            try:
                known[address, inode] = self._is_gpu(address, inode)
                if known[address, inode] and (driver := _driver(self.devices / address)) in OURS:
                    found[address] = driver
            except OSError:
                continue
        self.known = known
        return found

    def _listed(self) -> list[tuple[str, int]]:
        try:
            with os.scandir(self.devices) as entries:
                return [(entry.name, entry.inode()) for entry in entries]
        except OSError:
            return []

    def _is_gpu(self, address: str, inode: int) -> bool:
        known = self.known.get((address, inode))
        return _is_gpu(self.devices / address) if known is None else known


def driver_load(sysfs: Path) -> str:
    """What another load of the driver would not have: its folder's inode, which the kernel never reuses."""
    try:
        return str((sysfs / "module/nvidia").stat().st_ino)
    except OSError:
        return ""


def _is_gpu(device: Path) -> bool:
    vendor = (device / "vendor").read_text("ascii").strip()
    return vendor == NVIDIA and (device / "class").read_text("ascii").startswith(DISPLAY)


def _driver(device: Path) -> str:
    link = device / "driver"
    return link.readlink().name if link.is_symlink() else ""
