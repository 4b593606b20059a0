"""The number of GPUs on the bus: a host that nothing watches shows, and a container says nothing."""

from pathlib import Path

import pytest

from mlopsd_probes.container import KUBERNETES
from mlopsd_probes.system.gpus import NvidiaGpus
from mlopsd_probes.system.options import SystemOptions


def device(root: Path, address: str, vendor: str) -> None:
    folder = root / "sys/bus/pci/devices" / address
    folder.mkdir(parents=True)
    (folder / "vendor").write_text(f"{vendor}\n")
    (folder / "class").write_text("0x030200\n")


def counted(root: Path) -> list[float]:
    return [sample.value for sample in NvidiaGpus(SystemOptions(), root).collect().samples]


def test_gpus_of_nvidia_are_counted(tmp_path: Path) -> None:
    device(tmp_path, "0000:00:02.0", "0x8086")
    assert counted(tmp_path) == [0]
    device(tmp_path, "0000:01:00.0", "0x10de")
    device(tmp_path, "0000:02:00.0", "0x10de")
    assert counted(tmp_path) == [2]


def test_a_host_without_pci_devices_says_nothing(tmp_path: Path) -> None:
    assert counted(tmp_path) == []


def test_a_container_says_nothing_about_the_hosts_gpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device(tmp_path, "0000:01:00.0", "0x10de")
    monkeypatch.setenv(KUBERNETES, "10.0.0.1")
    assert counted(tmp_path) == []
