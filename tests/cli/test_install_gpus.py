"""``mlopsd install`` on a host with GPUs: its first configuration watches them."""

import tomllib
from pathlib import Path

from mlopsd.cli.install.files import read_shipped
from mlopsd.cli.install.gpus import count_gpus, with_gpu_probe


def device(sysfs: Path, address: str, vendor: str, kind: str) -> Path:
    folder = sysfs / "bus/pci/devices" / address
    folder.mkdir(parents=True)
    (folder / "vendor").write_text(f"{vendor}\n", "ascii")
    (folder / "class").write_text(f"{kind}\n", "ascii")
    return folder


def test_only_gpus_of_nvidia_are_counted(tmp_path: Path) -> None:
    assert count_gpus(tmp_path) == 0
    device(tmp_path, "0000:00:02.0", "0x8086", "0x030000")
    device(tmp_path, "0000:01:00.0", "0x10de", "0x030200")
    device(tmp_path, "0000:01:00.1", "0x10de", "0x040300")  # its sound
    device(tmp_path, "0000:02:00.0", "0x10de", "0x030000")
    guest = device(tmp_path, "0000:02:00.4", "0x10de", "0x030200")
    (guest / "physfn").symlink_to("../0000:02:00.0")
    passed_on = device(tmp_path, "0000:03:00.0", "0x10de", "0x030200")
    (passed_on / "driver").symlink_to("../../drivers/vfio-pci")
    (tmp_path / "bus/pci/devices/0000:04:00.0").mkdir()  # on its way out
    assert count_gpus(tmp_path) == 2


def test_the_shipped_configuration_can_watch_them() -> None:
    shipped = read_shipped("config.toml")
    watching = with_gpu_probe(shipped)
    assert "gpu" not in tomllib.loads(shipped.decode())["probes"]
    assert tomllib.loads(watching.decode())["probes"]["gpu"] == {}
    assert len(watching) == len(shipped) - 1
