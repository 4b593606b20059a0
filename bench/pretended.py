"""A host with eight pretended GPUs: the real pynvml, over the driver library in C."""

from pathlib import Path

from mlopsd_probes.fake_nvml import build

CARDS = 8
PCI_DEVICES = 256  # as many as hosts with NVSwitches, network cards and disks have
WHOLE = "[card *]\nnvlink.count 18\n"  # as many as Hopper's
MOVING = """\
utilization.gpu 50~40/20s
utilization.memory 30~20/20s
temperature.gpu 60~10/20s
temperature.memory 65~10/20s
power.usage 300000~100000/20s
memory.used 40000MiB+65536/s
energy 9000000000+300000/s
clock.sm 1300~100/20s
clock.graphics 1300~100/20s
nvlink.3.crc_flit 0+1/s
[host]
"""
CHEAP = "-DCHEAP"


class Pretended:
    """Its files in *room*: sysfs, and the scenario, in which what moves on a busy card moves.

    Attributes:
        environment: makes a process see the GPUs.
        sysfs: the probe's ``sysfs_path``.
    """

    def __init__(self, room: Path, *flags: str) -> None:
        room.mkdir(parents=True)
        self.sysfs = room / "sys"
        self.scenario = room / "host.scenario"
        self.scenario.write_text(build.scenario("dgx-a100-8").read_text() + WHOLE + MOVING, "utf-8")
        known = build.environment(self.scenario, room)
        home = build.library(room, *flags).parent
        self.environment = {**known, "LD_LIBRARY_PATH": f"{home}:{known['LD_LIBRARY_PATH']}"}
        _lay_out(self.sysfs / "bus/pci/devices", self.scenario.read_text("utf-8"))

    def add(self, *lines: str) -> None:
        """Have the scenario go on with *lines*."""
        build.steer(self.scenario, self.scenario.read_text("utf-8") + "\n".join(lines) + "\n")


def _lay_out(devices: Path, scenario: str) -> None:
    addresses = [line.split()[1][4:].lower() for line in scenario.splitlines() if line.startswith("pci 0")]
    for address in addresses:
        _device(devices / address, "0x10de", "0x030200")
        (devices / address / "driver").symlink_to("../../drivers/nvidia")
    for number in range(PCI_DEVICES - len(addresses)):
        _device(devices / f"0001:{number:02x}:00.0", "0x8086", "0x060400")


def _device(folder: Path, vendor: str, kind: str) -> None:
    folder.mkdir(parents=True)
    (folder / "vendor").write_text(f"{vendor}\n", "ascii")
    (folder / "class").write_text(f"{kind}\n", "ascii")
