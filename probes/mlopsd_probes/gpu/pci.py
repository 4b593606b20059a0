"""The NVIDIA cards on the PCI bus, whatever the driver says."""

from collections.abc import Mapping
from pathlib import Path

NVIDIA = "0x10de"
DISPLAY = "0x03"  # the base class: VGA, XGA, 3D and other display controllers
OURS = frozenset({"nvidia", ""})  # a card that vfio-pci or nouveau has is not NVML's to see


def cards_on_bus(sysfs: Path) -> Mapping[str, str]:
    """The driver by PCI address ("" for none) of each NVIDIA GPU that NVML ought to see.

    Empty where sysfs does not show PCI devices; one that goes away while it is looked at is gone.
    """
    found = {}
    for device in sorted(_devices(sysfs / "bus/pci/devices")):
        try:
            if _is_gpu(device) and (driver := _driver(device)) in OURS:
                found[device.name] = driver
        except OSError:
            continue
    return found


def driver_load(sysfs: Path) -> str:
    """What another load of the driver would not have: its folder's inode, which the kernel never reuses."""
    try:
        return str((sysfs / "module/nvidia").stat().st_ino)
    except OSError:
        return ""


def _devices(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _is_gpu(device: Path) -> bool:
    vendor = (device / "vendor").read_text("ascii").strip()
    return vendor == NVIDIA and (device / "class").read_text("ascii").startswith(DISPLAY)


def _driver(device: Path) -> str:
    link = device / "driver"
    return link.readlink().name if link.is_symlink() else ""
