"""The GPU probe in its own process over the fake driver, asked as the daemon asks it."""

import asyncio
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlopsd.probe import Counter, Finding, Histogram, Metric, Reading, Status
from mlopsd.worker.process import InitMessage, ProcessWorker
from mlopsd_probes.fake_nvml import build
from mlopsd_probes.gpu.probe import GpuProbe
from tests.running import GIVE_UP

TARGET = "mlopsd_probes.gpu.probe:GpuProbe"
HEALTHY = """
[host]
driver 550.54.15
nvml 12.550.54.15
cuda 12040
[card *]
name NVIDIA H100 80GB HBM3
vbios 96.00.74.00.01
persistence 1
compute_mode 0
pstate 0
utilization.gpu 60
utilization.memory 20
utilization.encoder 3
utilization.decoder 4
memory.total 80GiB
memory.reserved 1GiB
memory.used 20GiB
temperature.gpu 50
temperature.memory 60
threshold.slowdown 87
threshold.shutdown 92
threshold.memory_max 95
power.usage 300W
power.enforced 700W
energy 1000000
clock.sm 1980
clock.graphics 1970
clock.memory 2619
clock.video 1500
clock.max.sm 1980
clock.max.graphics 1980
clock.max.memory 2619
clock.max.video 1500
reasons.current 0
violation.power 1500000000
violation.thermal 0
ecc.mode 1
ecc.corrected.volatile.total 2
ecc.corrected.aggregate.total 4
ecc.uncorrected.volatile.total 0
ecc.uncorrected.aggregate.total 1
remapped.corrected 1
remapped.uncorrected 0
remapped.pending 0
remapped.failure 0
pcie.generation 5
pcie.max_generation 5
pcie.width 16
pcie.max_width 16
pcie.replays 7
nvlink.count 4
nvlink.state 1
nvlink.replay 0
nvlink.recovery 0
nvlink.crc_flit 5
nvlink.crc_data 0
recovery_action 0
fabric.state 3
fabric.status 0
mig.mode 0
mig.pending 0
events 0xFFFF
"""


def scenario(*lines: str, cards: int = 2) -> str:
    """A host of healthy cards, with *lines* that make it another."""
    sections = "".join(f"[card {index}]\n" for index in range(cards))
    return HEALTHY + sections + "[host]\n" + "\n".join(lines) + "\n"


class Nobody:
    """Hands out what a probe counts with between its checks; this one counts nothing."""

    def counter(self, metric: Metric) -> Counter:
        raise AssertionError(metric.name)

    def histogram(self, metric: Metric) -> Histogram:
        raise AssertionError(metric.name)


class Driven:
    """The probe on the host of a scenario.

    Attributes:
        folder: has the scenario, the state folder and sysfs.
        state: the probe's state folder, which outlives a restart.
    """

    def __init__(self, folder: Path, *lines: str, cards: int = 2, **table: Any) -> None:
        self.file = folder / "host.scenario"
        self.sysfs = folder / "sys"
        self.state = folder / "state"
        self.cards = cards
        self.steer(*lines)
        for place in (self.state, self.sysfs):
            place.mkdir(exist_ok=True)
        self.table = {"sysfs_path": str(self.sysfs), **table}
        self.worker = self.started()

    def started(self) -> ProcessWorker:
        log = logging.getLogger("test")
        opening = InitMessage("gpu", TARGET, self.table, self.state, logging.INFO, 10.0)
        return ProcessWorker(opening, GpuProbe.metrics, Nobody(), lambda: None, log)

    def steer(self, *lines: str, cards: int | None = None) -> None:
        """The host is another from now on."""
        build.steer(self.file, scenario(*lines, cards=self.cards if cards is None else cards))

    async def check(self) -> Reading:
        return await self.worker.check()

    async def restart(self) -> None:
        """Restart the probe as the daemon does: end its process and start another."""
        await self.worker.close()
        self.worker = self.started()

    async def close(self) -> None:
        await self.worker.close()

    def reboot(self) -> None:
        """Change what a boot changes for the probe; call it between `close` and `started`."""
        past = self.state / "past.json"
        reported = json.loads(past.read_text())
        past.write_text(json.dumps({**reported, "boot": "another boot"}))

    def on_bus(self, address: str, driver: str = "nvidia", kind: str = "0x030200") -> None:
        """Put an NVIDIA device at *address* of the PCI bus."""
        device = self.sysfs / "bus/pci/devices" / address
        device.mkdir(parents=True)
        (device / "vendor").write_text("0x10de\n")
        (device / "class").write_text(f"{kind}\n")
        if driver:
            (device / "driver").symlink_to(f"../../drivers/{driver}")


def found(reading: Reading, name: str, subject: str | None = None) -> Finding:
    """The one finding of that name and subject."""
    (finding,) = [f for f in reading.findings if (f.name, f.subject) == (name, subject)]
    return finding


def values(reading: Reading, name: str, gpu: int | None = 0) -> dict[tuple[str, ...], float]:
    """The values of one metric of one card by its other labels."""
    kept = {}
    for sample in reading.samples:
        labels = dict(sample.labels)
        index = labels.pop("gpu", None)
        labels.pop("uuid", None)
        if sample.name == name and (gpu is None or index == str(gpu)):
            kept[tuple(labels.values())] = sample.value
    return kept


def value(reading: Reading, name: str, *labels: str, gpu: int | None = 0) -> float:
    return values(reading, name, gpu)[labels]


def troubles(reading: Reading) -> list[tuple[str, str | None, Status]]:
    """All that is not healthy."""
    return [(f.name, f.subject, f.status) for f in reading.findings if f.status is not Status.HEALTHY]


def host_of_cards(folder: Path, factory: pytest.TempPathFactory, patch: pytest.MonkeyPatch) -> Path:
    """The file of a scenario of two healthy cards, for every process that is started from here."""
    file = folder / "host.scenario"
    file.write_text(scenario())
    patch.setenv("LD_LIBRARY_PATH", str(library(factory)))
    patch.setenv("FAKE_NVML_SCENARIO", str(file))
    return file


def library(tmp: pytest.TempPathFactory) -> Path:
    """The folder of the compiled fake, once a run of the tests."""
    return build.library(tmp.getbasetemp().parent).parent


Drive = Callable[..., Driven]


async def until(driven: Driven, wanted: Callable[[Reading], bool], seconds: float = GIVE_UP) -> Reading:
    """The first reading that is *wanted*."""
    deadline = time.monotonic() + seconds
    while not wanted(reading := await driven.check()):
        assert time.monotonic() < deadline, troubles(reading)
        await asyncio.sleep(0.05)
    return reading


def process_of(driven: Driven) -> int:
    starting = driven.worker._starting
    assert starting is not None
    return starting.result().child.pid


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def resident(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))
