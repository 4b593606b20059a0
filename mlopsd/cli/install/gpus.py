"""The NVIDIA GPUs of the host, which a new configuration watches from the start."""

from importlib.util import find_spec
from pathlib import Path

SYSFS = Path("/sys")
NVIDIA, DISPLAY = "0x10de", "0x03"  # the vendor, and the base class of display controllers
LIBRARY = "pynvml"  # of the extra mlopsd[gpu]


def count_gpus(sysfs: Path = SYSFS) -> int:
    """Return the number of NVIDIA GPUs on the PCI bus, without the virtual functions of guests."""
    return sum(map(_is_gpu, (sysfs / "bus/pci/devices").glob("*")))


def has_library() -> bool:
    """Return whether this installation can watch a GPU."""
    return find_spec(LIBRARY) is not None


def with_gpu_probe(configuration: bytes) -> bytes:
    """Return the shipped *configuration* with the table ``[probes.gpu]`` in use."""
    return configuration.replace(b"\n#[probes.gpu]\n", b"\n[probes.gpu]\n")


def _is_gpu(device: Path) -> bool:
    try:
        vendor, kind = ((device / name).read_text("ascii").strip() for name in ("vendor", "class"))
    except OSError:  # it is gone
        return False
    return vendor == NVIDIA and kind.startswith(DISPLAY) and not (device / "physfn").exists()
