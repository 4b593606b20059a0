"""The NVIDIA GPUs of the host, which a new configuration watches from the start."""

from importlib.util import find_spec
from pathlib import Path

from mlopsd.pci_bus import PciBus

SYSFS = Path("/sys")
LIBRARY = "pynvml"  # of the extra mlopsd[gpu]


def count_gpus(sysfs: Path = SYSFS) -> int:
    """Return the number of NVIDIA GPUs on the PCI bus, without those that a guest has."""
    return len(PciBus(sysfs).cards())


def has_library() -> bool:
    """Return whether this installation can watch a GPU."""
    return find_spec(LIBRARY) is not None


def with_gpu_probe(configuration: bytes) -> bytes:
    """Return the shipped *configuration* with the table ``[probes.gpu]`` in use."""
    return configuration.replace(b"\n#[probes.gpu]\n", b"\n[probes.gpu]\n")
