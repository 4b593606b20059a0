"""XIDs as they come from the driver, how long they count, and what ends them."""

import asyncio
import json
import time

import pytest

from mlopsd.probe import Advice, Reading, Status
from mlopsd_probes.gpu.options import GpuOptions
from mlopsd_probes.gpu.xid_table import XIDS
from tests.gpu.driving import (
    Drive,
    Driven,
    found,
    troubles,
    until,
    value,
    values,
)
from tests.running import GIVE_UP


async def test_an_xid_is_reported_counted_and_dated_and_a_repeat_shows(drive: Drive) -> None:
    driven = drive()
    await driven.check()
    driven.steer("xid 79 gpu 1")
    reading = await until(driven, lambda reading: value_of_xid(reading, 79) == 1)
    finding = found(reading, "xid", "gpu 1")
    assert (finding.status, finding.advice) == (Status.UNHEALTHY, Advice.REBOOT)
    assert "XID 79 (the GPU has fallen off the bus)" in finding.summary
    assert value(reading, "xid_last_timestamp_seconds", "79", gpu=1) == pytest.approx(time.time(), abs=30)
    driven.steer("xid 79 gpu 1", "xid 79 gpu 1")
    await until(driven, lambda reading: value_of_xid(reading, 79) == 2)
    assert found(reading, "xid", "gpu 0").status is Status.HEALTHY


def value_of_xid(reading: Reading, xid: int) -> float:
    return values(reading, "xid_errors_total", 1).get((str(xid),), 0)


async def test_an_applications_own_fault_is_counted_and_no_fault_of_the_card(drive: Drive) -> None:
    driven = drive()
    await driven.check()
    driven.steer("xid 31 gpu 1")
    reading = await until(driven, lambda reading: value_of_xid(reading, 31) == 1)
    assert troubles(reading) == []


async def test_a_sticky_xid_outlives_the_process_and_ends_with_the_boot(drive: Drive) -> None:
    driven = drive()
    await driven.check()
    driven.steer("xid 95 gpu 1")
    await until(driven, lambda reading: value_of_xid(reading, 95) == 1)
    driven.steer()
    await driven.restart()
    reading = await driven.check()
    assert found(reading, "xid", "gpu 1").status is Status.UNHEALTHY
    assert value_of_xid(reading, 95) == 1
    await driven.close()
    driven.reboot()
    driven.worker = driven.started()
    reading = await driven.check()
    assert troubles(reading) == []
    assert value_of_xid(reading, 95) == 0


async def test_an_xid_is_on_disk_before_the_call_that_it_makes_hang(drive: Drive) -> None:
    driven = drive()
    await driven.check()
    driven.steer("xid 119 gpu 1", "hang nvmlDeviceGetPowerUsage gpu 0")
    check = asyncio.create_task(driven.check(), name="check")
    async with asyncio.timeout(GIVE_UP):
        while not is_on_disk(driven, "119"):
            await asyncio.sleep(0.02)
    await asyncio.wait({check}, timeout=0.1)
    assert not check.done(), "the driver hangs"
    check.cancel()


def is_on_disk(driven: Driven, xid: str) -> bool:
    reported = json.loads((driven.state / "past.json").read_text())
    return any(xid in card["xids"] for card in reported["cards"].values())


async def test_a_sticky_xid_ends_when_the_driver_is_reloaded(drive: Drive) -> None:
    driven = drive()
    module = driven.sysfs / "module/nvidia"
    module.mkdir(parents=True)
    await driven.check()
    driven.steer("xid 95 gpu 1")
    await until(driven, lambda reading: value_of_xid(reading, 95) == 1)
    module.rename(driven.sysfs / "old")  # else its inode could be given to the next at once
    module.mkdir()
    assert troubles(await driven.check()) == []


async def test_a_sticky_xid_ends_when_the_card_counts_its_energy_from_zero(drive: Drive) -> None:
    driven = drive()
    await driven.check()
    driven.steer("xid 95 gpu 1")
    await until(driven, lambda reading: value_of_xid(reading, 95) == 1)
    await driven.restart()
    driven.steer("energy 5 gpu 1", "persistence 0 gpu 1")
    assert (
        found(await driven.check(), "xid", "gpu 1").status is Status.UNHEALTHY
    )  # it may only have been idle
    driven.steer("energy 4 gpu 1")
    assert troubles(await driven.check()) == []


async def test_a_sticky_xid_ends_when_the_driver_no_longer_asks_for_a_reset(drive: Drive) -> None:
    driven = drive()
    await driven.check()
    driven.steer("xid 95 gpu 1", "recovery_action 1 gpu 1")
    reading = await until(driven, lambda reading: value_of_xid(reading, 95) == 1)
    finding = found(reading, "recovery_action", "gpu 1")
    assert (finding.status, finding.advice) == (Status.UNHEALTHY, Advice.RESET_GPU)
    driven.steer()
    assert troubles(await driven.check()) == []


async def test_an_operator_ends_it_with_a_reload(drive: Drive) -> None:
    driven = drive(cards=3)
    await driven.check()
    driven.steer("xid 95 gpu 1", "gone gpu 2", "counted anew")
    await until(driven, lambda reading: value_of_xid(reading, 95) == 1)
    assert "would forget 1 XID" in await driven.worker.reload(dry_run=True, force=False)
    assert (await driven.check()).status is Status.UNHEALTHY
    await driven.worker.reload(dry_run=False, force=False)
    driven.steer("gone gpu 2", "counted anew")
    reading = await driven.check()
    assert troubles(reading) == []
    assert value_of_xid(reading, 95) == 1


async def test_xids_that_are_missed_are_reported_and_waited_for_again(drive: Drive) -> None:
    driven = drive("error nvmlEventSetWait* UNKNOWN")
    reading = await until(driven, lambda reading: reading.status is not Status.HEALTHY)
    assert troubles(reading) == [("xid_watch", None, Status.DEGRADED)]
    driven.steer()
    await until(driven, lambda reading: reading.status is Status.HEALTHY)


async def test_a_driver_without_events_is_no_fault_and_says_whose_xids_are_missed(drive: Drive) -> None:
    driven = drive("error nvmlDeviceRegisterEvents NOT_SUPPORTED gpu 1")
    reading = await driven.check()
    assert troubles(reading) == []
    assert reading.facts["xids_not_told_by"] == [1]
    driven.steer("error nvmlEventSetCreate NOT_SUPPORTED")
    await driven.restart()
    reading = await driven.check()
    assert troubles(reading) == []
    assert not any(f.name == "xid_watch" for f in reading.findings)


async def test_each_xid_is_judged_as_the_table_says_and_those_of_applications_never(drive: Drive) -> None:
    options = GpuOptions()
    numbers = [*options.xids_unhealthy, *options.xids_degraded, 13, 31, 43, 45, 137]
    driven = drive(cards=len(numbers))
    await driven.check()
    driven.steer(*(f"xid {xid} gpu {card}" for card, xid in enumerate(numbers)))
    reading = await until(
        driven, lambda reading: len(values(reading, "xid_errors_total", None)) == len(numbers)
    )
    expected = dict.fromkeys(options.xids_unhealthy, Status.UNHEALTHY) | dict.fromkeys(
        options.xids_degraded, Status.DEGRADED
    )
    for card, xid in enumerate(numbers):
        finding = found(reading, "xid", f"gpu {card}")
        assert finding.status is expected.get(xid, Status.HEALTHY), xid
        assert finding.advice is (XIDS[xid].advice if xid in expected else Advice.NONE)


async def test_an_xid_follows_its_card_to_another_index(drive: Drive) -> None:
    driven = drive()
    first = await driven.check()
    driven.steer("xid 95 gpu 1")
    await until(driven, lambda reading: value_of_xid(reading, 95) == 1)
    uuids = [card["uuid"] for card in first.facts["gpus"]]
    buses = [card["bus_id"] for card in first.facts["gpus"]]
    swapped = [f"uuid {uuids[1 - card]} gpu {card}" for card in (0, 1)]
    driven.steer("reload", *swapped, *(f"pci 0000{buses[1 - card]} gpu {card}" for card in (0, 1)))
    reading = await driven.check()
    assert [card["uuid"] for card in reading.facts["gpus"]] == uuids[::-1]
    assert troubles(reading) == [("xid", "gpu 0", Status.UNHEALTHY)]
    assert values(reading, "xid_errors_total", 0) == {("95",): 1}
