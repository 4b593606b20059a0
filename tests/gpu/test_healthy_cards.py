"""No false alarm: hosts of healthy cards, and what moves on them while nothing is wrong."""

import os
from pathlib import Path
from typing import Any

import pytest

from mlopsd.probe import Advice, Status
from mlopsd_probes.fake_nvml import build
from tests.gpu.driving import Drive, Driven, found, troubles, values

HERE = Path(__file__).parent
CAPTURES = Path(os.environ.get("NVML_CAPTURES", HERE.parents[2] / "shared/nvml"))
SICK = {"xid79-unknown-error"}
HEALTHY = sorted(
    str(path)
    for folder in (HERE / "healthy", build.SCENARIOS, CAPTURES)
    for path in folder.glob(f"*{build.SUFFIX}")
    if path.stem not in SICK
)
BUSY = ("utilization.gpu 90", "pstate 0")
IDLE = ("utilization.gpu 0", "pstate 8")
TOO_LITTLE = -12  # at 70 °C: a limit of 61 °C, which no card has


@pytest.mark.parametrize("name", HEALTHY, ids=lambda name: Path(name).stem)
async def test_a_healthy_card_raises_no_finding_and_asks_nobody_to_act(drive: Drive, name: str) -> None:
    driven = drive()
    build.steer(driven.file, build.scenario(name).read_text())
    for _ in range(2):
        reading = await driven.check()
        assert troubles(reading) == []
        assert [finding for finding in reading.findings if finding.advice is not Advice.NONE] == []
        assert reading.status is Status.HEALTHY
        assert reading.facts["gpus"]


async def test_a_card_that_was_only_seen_narrow_is_healthy_while_it_is_busy(drive: Drive) -> None:
    driven = drive(*BUSY, "pcie.width 8", "pcie.generation 3", pcie_generation_after=0.01)
    for _ in range(3):
        reading = await driven.check()
        assert troubles(reading) == []
    assert found(reading, "pcie_width", "gpu 1").limit == 8
    assert values(reading, "pcie_link_width_limit", 1) == {(): 16}


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (BUSY, Status.DEGRADED),
        (("utilization.gpu 90", "pstate 2"), Status.DEGRADED),
        (("utilization.gpu 90", "pstate absent"), Status.DEGRADED),
        (("utilization.gpu absent", "pstate 0"), Status.DEGRADED),  # in MIG mode
        (IDLE, Status.HEALTHY),
        (("utilization.gpu 0", "pstate 0"), Status.HEALTHY),
        (("utilization.gpu 90", "pstate 5"), Status.HEALTHY),  # a film on a desktop
        (("utilization.gpu absent", "pstate 8"), Status.HEALTHY),
        (("utilization.gpu absent", "pstate absent"), Status.HEALTHY),
    ],
)
async def test_a_width_that_drops_counts_only_while_the_card_is_busy(
    drive: Drive, lines: tuple[str, ...], status: Status
) -> None:
    driven = drive()
    assert troubles(await driven.check()) == []
    driven.steer(*lines, "pcie.width 4 gpu 1")
    finding = found(await driven.check(), "pcie_width", "gpu 1")
    assert (finding.status, finding.observed, finding.limit) == (status, 4, 16)


async def test_a_card_that_begins_idle_and_narrow_is_judged_by_what_it_reaches_later(drive: Drive) -> None:
    driven = drive(*IDLE, "pcie.width 1", "pcie.generation 1")
    assert troubles(await driven.check()) == []
    driven.steer(*BUSY)
    assert troubles(await driven.check()) == []
    await driven.restart()  # the daemon forgets nothing
    driven.steer(*BUSY, "pcie.width 8 gpu 1")
    finding = found(await driven.check(), "pcie_width", "gpu 1")
    assert (finding.status, finding.limit) == (Status.DEGRADED, 16)
    assert "used 16 before" in finding.summary
    driven.steer(*IDLE, "pcie.width 1")
    assert troubles(await driven.check()) == []


async def another_boot(driven: Driven) -> list[str]:
    await driven.close()
    driven.reboot()
    driven.worker = driven.started()
    return []


async def another_load(driven: Driven) -> list[str]:
    (driven.sysfs / "module/nvidia").rename(driven.sysfs / "old")
    (driven.sysfs / "module/nvidia").mkdir()
    return []


async def another_slot(driven: Driven) -> list[str]:
    return ["reload", "pci 00000000:81:00.0 gpu 1"]


@pytest.mark.parametrize("change", [another_boot, another_load, another_slot])
async def test_what_another_slot_driver_load_or_boot_had_says_nothing_of_the_link(
    drive: Drive, change: Any
) -> None:
    driven = drive(pcie_generation_after=0.01)
    (driven.sysfs / "module/nvidia").mkdir(parents=True)
    await driven.check()
    lines = await change(driven)
    driven.steer(*lines, *(f"{line} gpu 1" for line in (*BUSY, "pcie.width 8", "pcie.generation 3")))
    for _ in range(3):
        assert troubles(await driven.check()) == []


@pytest.mark.parametrize(
    ("margin", "status", "limit"),
    [
        (7, Status.HEALTHY, 84),
        (2, Status.DEGRADED, 79),
        (-3, Status.UNHEALTHY, 79),
        (-4, Status.UNHEALTHY, 78),
        (TOO_LITTLE, Status.HEALTHY, None),
        (45, Status.HEALTHY, None),
    ],
)
async def test_a_limit_from_a_margin_counts_only_where_cards_have_their_limits(
    drive: Drive, margin: int, status: Status, limit: int | None
) -> None:
    degrees = 70 if margin == TOO_LITTLE else 79
    lines = (f"temperature.gpu {degrees}", f"temperature.margin {margin}", "tlimit.slowdown -3")
    driven = drive(*lines, "threshold.slowdown absent")
    reading = await driven.check()
    finding = found(reading, "temperature", "gpu 1")
    assert (finding.status, finding.limit) == (status, limit)
    assert ("slowdown",) not in values(reading, "temperature_limit_celsius", 1)


@pytest.mark.parametrize("limit", ["0", "-1", "1", "40", "127", "255", "NA", "absent"])
async def test_a_limit_that_no_card_has_is_no_limit_and_no_number(drive: Drive, limit: str) -> None:
    reading = await drive(
        *("temperature.gpu 90", "temperature.memory 99"),
        *(f"threshold.{name} {limit}" for name in ("slowdown", "shutdown", "memory_max", "gpu_max")),
    ).check()
    assert troubles(reading) == []
    assert values(reading, "temperature_limit_celsius", 1) == {}


@pytest.mark.parametrize(
    "line",
    ["retired.pending NA", "remapped.pending NA", "remapped.failure NA", "mig.mode NA", "persistence NA"],
)
async def test_a_flag_that_is_not_reported_is_not_set(drive: Drive, line: str) -> None:
    reading = await drive(f"{line} gpu 1").check()
    assert troubles(reading) == []
    assert not [sample for sample in reading.samples if sample.value == 2**32 - 1]


async def test_links_that_mig_has_switched_off_are_not_missed(drive: Drive) -> None:
    driven = drive()
    await driven.check()
    driven.steer("nvlink.state 0", "mig.mode 1", "mig.pending 1", "mig.max 7")
    assert troubles(await driven.check()) == []
    driven.steer("nvlink.state 0")
    assert {name for name, *_ in troubles(await driven.check())} == {"nvlink"}


@pytest.mark.parametrize(
    ("end", "is_judged"), [("0", False), ("2", True), ("NOT_SUPPORTED", True), ("255", True)]
)
async def test_a_fabric_that_has_not_begun_counts_only_where_a_switch_is(
    drive: Drive, end: str, *, is_judged: bool
) -> None:
    reading = await drive("fabric.state 2 gpu 1", f"nvlink.remote_type {end}").check()
    assert [name for name, *_ in troubles(reading)] == ["nvlink_fabric"] * is_judged


async def test_a_virtual_function_on_the_bus_is_a_guests_and_not_missed(drive: Drive) -> None:
    driven = drive(cards=1)
    driven.on_bus("0000:01:00.0")
    driven.on_bus("0000:01:00.4")
    (driven.sysfs / "bus/pci/devices/0000:01:00.4/physfn").symlink_to("../0000:01:00.0")
    assert troubles(await driven.check()) == []
