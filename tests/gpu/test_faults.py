"""Every fault of a driver and its cards, over the real pynvml and a driver library that has the fault."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mlopsd.probe import Advice, Reading, Status
from mlopsd_probes.gpu.fake import build
from tests.gpu.driving import Driven, found, library, troubles, value, values

Drive = Callable[..., Driven]


@pytest.fixture
async def drive(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Drive]:
    """Starts the probe on a host of healthy cards with some lines that make it another."""
    monkeypatch.setenv("LD_LIBRARY_PATH", str(library(tmp_path_factory)))
    monkeypatch.setenv("FAKE_NVML_SCENARIO", str(tmp_path / "host.scenario"))
    started: list[Driven] = []

    def start(*lines: str, cards: int = 2, **table: Any) -> Driven:
        started.append(Driven(tmp_path, *lines, cards=cards, **table))
        return started[-1]

    yield start
    for driven in started:
        await driven.close()


async def until(driven: Driven, wanted: Callable[[Reading], bool], seconds: float = 20) -> Reading:
    """The first reading that is *wanted*."""
    deadline = time.monotonic() + seconds
    while not wanted(reading := await driven.check()):
        assert time.monotonic() < deadline, troubles(reading)
        await asyncio.sleep(0.05)
    return reading


async def test_a_host_that_is_well_is_healthy_and_each_card_is_there(drive: Drive) -> None:
    reading = await drive(cards=8).check()
    assert troubles(reading) == []
    assert reading.summary == "8 GPUs, all healthy"
    assert value(reading, "devices", gpu=None) == 8
    assert [card["index"] for card in reading.facts["gpus"]] == list(range(8))
    assert (reading.facts["driver"], reading.facts["cuda"]) == ("550.54.15", "12.4")


async def test_one_lost_card_is_named_and_the_others_are_well(drive: Drive) -> None:
    driven = drive(cards=3)
    assert troubles(await driven.check()) == []
    driven.steer("lost gpu 1")
    reading = await driven.check()
    lost = found(reading, "gpu_answers", "gpu 1")
    assert (lost.status, lost.advice) == (Status.UNHEALTHY, Advice.REBOOT)
    assert "gpu 1 (NVIDIA H100 80GB HBM3, 0000:02:00.0) is lost" in lost.summary
    assert reading.summary == f"{lost.summary} (and {len(troubles(reading)) - 1} more)"
    assert found(reading, "gpu_count").observed == 2
    assert found(reading, "gpu_count").limit == 3
    assert value(reading, "devices", gpu=None) == 2
    assert value(reading, "temperature_celsius", "gpu", gpu=0) == 50
    assert values(reading, "temperature_celsius", 1) == {}
    driven.steer()
    assert troubles(await driven.check()) == []


async def test_a_card_that_is_lost_from_the_start_is_counted(drive: Drive) -> None:
    reading = await drive("lost gpu 1").check()
    assert found(reading, "gpu_answers", "gpu 1").status is Status.UNHEALTHY
    assert found(reading, "gpu_answers", "gpu 0").status is Status.HEALTHY
    assert found(reading, "gpu_count").status is Status.UNHEALTHY


async def test_a_card_that_needs_a_reset_says_so(drive: Drive) -> None:
    reading = await drive("reset_required gpu 0").check()
    finding = found(reading, "gpu_answers", "gpu 0")
    assert (finding.status, finding.advice) == (Status.UNHEALTHY, Advice.RESET_GPU)
    assert reading.summary.startswith("gpu 0 (")
    assert max(f.advice for f in reading.findings) is Advice.RESET_GPU  # and not the count's reboot


async def test_a_card_that_is_gone_is_named_as_it_was(drive: Drive) -> None:
    driven = drive(cards=3)
    await driven.check()
    driven.steer("gone gpu 2", "counted anew")
    reading = await driven.check()
    missing = found(reading, "gpu_missing", "gpu 2")
    assert missing.status is Status.UNHEALTHY
    assert "0000:03:00.0" in missing.summary
    assert reading.status is Status.UNHEALTHY
    await driven.restart()  # a new process still knows who was there since boot
    assert found(await driven.check(), "gpu_missing", "gpu 2").status is Status.UNHEALTHY


async def test_a_card_before_others_that_is_gone_is_not_taken_for_its_neighbour(drive: Drive) -> None:
    driven = drive(cards=3)
    await driven.check()
    driven.steer("gone gpu 0", "counted anew")
    reading = await driven.check()
    assert found(reading, "gpu_missing", "gpu 0 before").status is Status.UNHEALTHY
    assert found(reading, "gpu_answers", "gpu 0").status is Status.HEALTHY
    assert len({(f.name, f.subject) for f in reading.findings}) == len(reading.findings)


async def test_more_cards_than_before_are_taken_in(drive: Drive) -> None:
    driven = drive(cards=2)
    await driven.check()
    driven.steer(cards=3)
    reading = await until(driven, lambda reading: value(reading, "devices", gpu=None) == 3)
    assert troubles(reading) == []


@pytest.mark.parametrize(
    ("expected", "status"), [(2, Status.HEALTHY), (3, Status.UNHEALTHY), (1, Status.DEGRADED)]
)
async def test_the_configured_count_decides(drive: Drive, expected: int, status: Status) -> None:
    assert found(await drive(expected_count=expected).check(), "gpu_count").status is status


async def test_a_card_on_the_bus_that_nvml_does_not_list_is_missed(drive: Drive) -> None:
    driven = drive(cards=1)
    driven.on_bus("0000:01:00.0")
    driven.on_bus("0000:81:00.0")
    driven.on_bus("0000:91:00.0", driver="vfio-pci")  # a virtual machine's
    driven.on_bus("0000:a1:00.0", kind="0x040300")  # the sound of a card
    reading = await driven.check()
    assert found(reading, "gpu_missing", "pci 0000:81:00.0").status is Status.UNHEALTHY
    assert [f.name for f in reading.findings].count("gpu_missing") == 1


async def test_nvml_is_initialised_once_and_again_when_the_bus_shows_other_cards(
    drive: Drive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = tmp_path / "calls"
    monkeypatch.setenv("FAKE_NVML_CALLS", str(calls))
    driven = drive(cards=2)
    driven.on_bus("0000:01:00.0")
    for _ in range(3):
        await driven.check()
    driven.on_bus("0000:02:00.0")
    driven.on_bus("0000:81:00.0", driver="")
    for _ in range(3):
        await driven.check()
    await driven.close()
    counted = dict(line.split() for line in calls.read_text().splitlines())
    assert int(counted["nvmlInitWithFlags"]) == 2


async def test_a_card_that_the_operator_ignores_is_left_alone(drive: Drive) -> None:
    driven = drive("lost gpu 1", ignored_cards=["0000:02:00.0", "0000:81:*"])
    driven.on_bus("0000:01:00.0")
    driven.on_bus("0000:81:00.0")
    driven.steer("temperature.gpu 99 gpu 1")
    assert troubles(await driven.check()) == []


@pytest.mark.parametrize(
    ("error", "status", "advice", "words"),
    [
        ("DRIVER_NOT_LOADED", Status.UNKNOWN, Advice.FIX_CONFIG, "not loaded"),
        ("LIB_RM_VERSION_MISMATCH", Status.UNHEALTHY, Advice.REBOOT, "different versions"),
        ("NO_PERMISSION", Status.UNKNOWN, Advice.FIX_CONFIG, "DeviceAllow=char-nvidia*"),
        ("UNKNOWN", Status.UNKNOWN, Advice.WATCH, "Unknown Error"),
    ],
)
async def test_a_driver_that_does_not_initialise_is_told_with_its_cure_and_recovers(
    drive: Drive, error: str, status: Status, advice: Advice, words: str
) -> None:
    driven = drive(f"init error {error}")
    reading = await driven.check()
    finding = found(reading, "driver")
    assert (reading.status, finding.status, finding.advice) == (status, status, advice)
    assert words in finding.summary
    assert value(reading, "devices", gpu=None) == 0
    driven.steer()
    assert troubles(await driven.check()) == []


async def test_no_library_is_told_with_its_cure(drive: Drive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", "")
    finding = found(await drive().check(), "driver")
    assert finding.status is Status.UNKNOWN
    assert "libnvidia-ml.so.1 is not there; install the NVIDIA driver" in finding.summary


@pytest.mark.parametrize(
    ("table", "status"),
    [
        ({}, Status.UNKNOWN),
        ({"on_no_driver": "unhealthy"}, Status.UNHEALTHY),
        ({"on_no_driver": "healthy"}, Status.HEALTHY),
        ({"expected_count": 0, "on_no_driver": "unhealthy"}, Status.HEALTHY),
        ({"expected_count": 2, "on_no_driver": "unhealthy"}, Status.UNHEALTHY),
    ],
)
async def test_what_no_driver_means_is_the_operators_to_say(
    drive: Drive, table: dict[str, Any], status: Status
) -> None:
    driven = drive("init error DRIVER_NOT_LOADED", **table)
    driven.on_bus("0000:01:00.0")
    reading = await driven.check()
    assert reading.status is status
    assert "0000:01:00.0" in found(reading, "driver").summary or status is Status.HEALTHY


async def test_a_driver_without_a_card_is_not_healthy(drive: Drive) -> None:
    assert (await drive("cards 0", cards=0).check()).status is Status.UNKNOWN


async def test_nvml_that_is_no_longer_initialised_is_initialised_within_the_check(drive: Drive) -> None:
    driven = drive()
    await driven.check()
    driven.steer("error nvmlDeviceGetTemperature UNINITIALIZED times 1")
    assert troubles(await driven.check()) == []


async def test_a_driver_that_was_reloaded_is_taken_up_within_the_check(drive: Drive) -> None:
    driven = drive()
    await driven.check()
    driven.steer("reload")
    assert troubles(await driven.check()) == []


async def test_a_driver_that_goes_away_while_running_is_told_and_comes_back(drive: Drive) -> None:
    driven = drive()
    await driven.check()
    driven.steer("error * DRIVER_NOT_LOADED")
    assert found(await driven.check(), "driver").status is Status.UNKNOWN
    driven.steer()
    assert troubles(await driven.check()) == []


async def test_a_call_that_never_returns_is_the_readings_end_and_not_the_workers(drive: Drive) -> None:
    driven = drive()
    await driven.check()
    driven.steer("hang nvmlDeviceGetPowerUsage gpu 1")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(driven.check(), 1)
    driven.steer()
    await asyncio.sleep(3)  # the hung process is ended, and the pause until another starts passes
    assert troubles(await driven.check()) == []


async def test_a_slow_call_costs_time_and_nothing_else(drive: Drive) -> None:
    driven = drive()
    await driven.check()
    driven.steer("delay nvmlDeviceGetPowerUsage 1500ms gpu 1")
    began = time.monotonic()
    assert troubles(await driven.check()) == []
    assert time.monotonic() - began > 1.4


@pytest.mark.parametrize("error", ["NOT_SUPPORTED", "NO_DATA", "NOT_READY", "DEPRECATED"])
async def test_what_a_card_does_not_have_is_absent_and_never_zero(drive: Drive, error: str) -> None:
    reading = await drive(f"error nvmlDeviceGet* {error} gpu 1").check()
    assert not any(f.status is not Status.HEALTHY and f.subject == "gpu 1" for f in reading.findings)
    names = {s.name for s in reading.samples if dict(s.labels).get("gpu") == "1"}
    assert names == {"info"}


async def test_a_call_that_the_driver_does_not_know_is_absent(drive: Drive) -> None:
    calls = ("nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetFieldValues", "nvmlDeviceGetRemappedRows")
    reading = await drive(*(f"missing {call}" for call in calls)).check()
    assert troubles(reading) == []
    assert value(reading, "memory_total_bytes") == 80 * 2**30  # by the older call
    assert values(reading, "remapped_rows") == {}


@pytest.mark.parametrize(
    ("line", "name", "labels"),
    [
        ("utilization.gpu NA", "utilization_ratio", ("compute",)),
        ("utilization.gpu 4294967", "utilization_ratio", ("compute",)),
        ("temperature.gpu NA", "temperature_celsius", ("gpu",)),
        ("temperature.memory NA", "temperature_celsius", ("memory",)),
        ("temperature.memory 0", "temperature_celsius", ("memory",)),
        ("threshold.slowdown 0", "temperature_limit_celsius", ("slowdown",)),
        ("power.usage NA", "power_watts", ()),
        ("clock.sm NA", "clock_hertz", ("sm",)),
        ("pcie.width NA", "pcie_link_width", ()),
        ("pcie.replays NA", "pcie_replays_total", ()),
        ("memory.used NA", "memory_used_bytes", ()),
        ("energy NA", "energy_joules_total", ()),
        ("energy 9223372036854775794", "energy_joules_total", ()),
        ("pstate 32", "performance_state", ()),
        ("ecc.uncorrected.volatile.total NA", "ecc_errors_total", ("uncorrected", "volatile")),
    ],
)
async def test_a_sentinel_is_no_number(drive: Drive, line: str, name: str, labels: tuple[str, ...]) -> None:
    reading = await drive(f"{line} gpu 1").check()
    assert troubles(reading) == []
    assert labels in values(reading, name, 0)
    assert labels not in values(reading, name, 1)


@pytest.mark.parametrize(
    ("call", "name", "status"),
    [
        ("nvmlDeviceGetTemperature", "temperature", Status.UNKNOWN),
        ("nvmlDeviceGetTotalEccErrors", "ecc_uncorrected", Status.UNKNOWN),
        ("nvmlDeviceGetUtilizationRates", "utilization", Status.DEGRADED),
        ("nvmlDeviceGetFanSpeed", "fan", Status.DEGRADED),
    ],
)
async def test_an_unknown_error_takes_one_look_at_one_card(
    drive: Drive, call: str, name: str, status: Status
) -> None:
    reading = await drive(f"error {call} UNKNOWN gpu 1").check()
    finding = found(reading, name, "gpu 1")
    assert finding.status is status
    assert "Unknown Error" in finding.summary
    assert found(reading, "gpu_answers", "gpu 1").status is Status.HEALTHY
    assert all(subject in ("gpu 1", None) for _, subject, _ in troubles(reading))


async def test_a_card_that_may_not_be_opened_is_told_with_its_cure(drive: Drive) -> None:
    finding = found(
        await drive("error nvmlDeviceGetHandleByIndex* NO_PERMISSION").check(), "gpu_answers", "gpu 0"
    )
    assert (finding.status, finding.advice) == (Status.UNKNOWN, Advice.FIX_CONFIG)
    assert "DeviceAllow=char-nvidia*" in finding.summary


async def test_an_xid_is_told_counted_and_dated_and_a_repeat_shows(drive: Drive) -> None:
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
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(driven.check(), 3)
    told = json.loads((driven.state / "past.json").read_text())
    assert any("119" in card["xids"] for card in told["cards"].values())


async def test_a_sticky_xid_ends_when_the_driver_is_loaded_anew(drive: Drive) -> None:
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


async def test_uncorrected_errors_count_from_the_first_look_and_outlive_the_process(drive: Drive) -> None:
    driven = drive("ecc.uncorrected.volatile.total 3 gpu 1")
    assert troubles(await driven.check()) == []
    driven.steer("ecc.uncorrected.volatile.total 4 gpu 1")
    finding = found(await driven.check(), "ecc_uncorrected", "gpu 1")
    assert (finding.status, finding.advice, finding.observed) == (Status.UNHEALTHY, Advice.RESET_GPU, 1)
    await driven.restart()
    assert found(await driven.check(), "ecc_uncorrected", "gpu 1").status is Status.UNHEALTHY
    driven.steer("ecc.uncorrected.volatile.total 0 gpu 1")  # it was reset
    assert troubles(await driven.check()) == []
    driven.steer("ecc.uncorrected.volatile.total 1 gpu 1")
    assert found(await driven.check(), "ecc_uncorrected", "gpu 1").observed == 1


@pytest.mark.parametrize(
    ("line", "name", "status", "advice"),
    [
        ("temperature.gpu 81", "temperature", Status.HEALTHY, Advice.NONE),
        ("temperature.gpu 82", "temperature", Status.DEGRADED, Advice.WATCH),
        ("temperature.gpu 87", "temperature", Status.UNHEALTHY, Advice.WATCH),
        ("temperature.memory 90", "memory_temperature", Status.DEGRADED, Advice.WATCH),
        ("temperature.memory 95", "memory_temperature", Status.UNHEALTHY, Advice.WATCH),
        ("remapped.pending 1", "remapped_rows", Status.DEGRADED, Advice.RESET_GPU),
        ("remapped.failure 1", "remapped_rows", Status.UNHEALTHY, Advice.REPLACE_HARDWARE),
        ("pcie.width 8", "pcie_width", Status.DEGRADED, Advice.WATCH),
        ("recovery_action 2", "recovery_action", Status.UNHEALTHY, Advice.REBOOT),
        ("recovery_action 3", "recovery_action", Status.DEGRADED, Advice.RESTART_APP),
        ("recovery_action 4", "recovery_action", Status.DEGRADED, Advice.RESET_GPU),
        ("recovery_action 99", "recovery_action", Status.UNHEALTHY, Advice.RESET_GPU),
        ("nvlink.2.state 0", "nvlink", Status.DEGRADED, Advice.RESET_GPU),
        ("fabric.state 2", "nvlink_fabric", Status.DEGRADED, Advice.RESET_GPU),
        ("fabric.status 999", "nvlink_fabric", Status.DEGRADED, Advice.RESET_GPU),
    ],
)
async def test_a_signal_beyond_its_limit_shows_and_ends_with_its_cause(
    drive: Drive, line: str, name: str, status: Status, advice: Advice
) -> None:
    driven = drive()
    assert troubles(await driven.check()) == []
    driven.steer(f"{line} gpu 1")
    reading = await driven.check()
    finding = found(reading, name, "gpu 1")
    assert (finding.status, finding.advice) == (status, advice)
    assert troubles(reading) == ([(name, "gpu 1", status)] if status is not Status.HEALTHY else [])
    driven.steer()
    assert troubles(await driven.check()) == []


async def test_a_card_that_tells_only_how_far_it_is_from_slowing_down_is_judged_by_that(drive: Drive) -> None:
    lines = ["threshold.slowdown absent", "temperature.margin 4", "tlimit.slowdown -2"]
    driven = drive(*lines)
    finding = found(await driven.check(), "temperature", "gpu 1")
    assert (finding.status, finding.limit) == (Status.HEALTHY, 51)
    driven.steer("threshold.slowdown absent", "temperature.margin 3", "tlimit.slowdown -2")
    assert found(await driven.check(), "temperature", "gpu 1").status is Status.DEGRADED
    driven.steer("threshold.slowdown absent", "temperature.margin -2", "tlimit.slowdown -2")
    assert found(await driven.check(), "temperature", "gpu 1").status is Status.UNHEALTHY


async def test_a_slowdown_of_the_hardware_counts_when_it_goes_on_and_a_power_cap_never(drive: Drive) -> None:
    driven = drive(
        "reasons.current 0x40 gpu 1", "reasons.current 0x4 gpu 0", throttled_degraded=1, throttled_window=60
    )
    reading = await driven.check()
    assert troubles(reading) == []
    assert value(reading, "throttled", "hw_thermal", gpu=1) == 1
    assert value(reading, "throttled", "sw_power_cap", gpu=0) == 1
    await asyncio.sleep(1.1)
    reading = await driven.check()
    assert troubles(reading) == [("throttled", "gpu 1", Status.DEGRADED)]
    assert "for heat" in found(reading, "throttled", "gpu 1").summary


async def test_a_slow_link_counts_only_while_the_card_is_busy_for_a_while(drive: Drive) -> None:
    busy, idle = "utilization.gpu 90 gpu 1", "utilization.gpu 0 gpu 0"
    driven = drive(busy, idle, "pcie.generation 1", pcie_generation_after=1)
    assert troubles(await driven.check()) == []
    await asyncio.sleep(1.1)
    assert troubles(await driven.check()) == [("pcie_generation", "gpu 1", Status.DEGRADED)]


async def test_links_that_were_never_up_are_not_missed_unless_they_are_configured(drive: Drive) -> None:
    driven = drive("nvlink.state 0", "fabric.state 1")
    reading = await driven.check()
    assert troubles(reading) == []
    assert not any(f.name in ("nvlink", "nvlink_fabric") for f in reading.findings)
    driven.table["expected_nvlinks"] = 4
    await driven.restart()
    assert len(troubles(await driven.check())) == 2


async def test_a_card_that_is_split_by_mig_is_well(drive: Drive) -> None:
    lines = [
        *("mig.mode 1 gpu 1", "mig.pending 1 gpu 1", "mig.max 7 gpu 1", "utilization.gpu absent gpu 1"),
        "gpu 1 mig 1 0 3g.40gb 42 39GiB 1GiB MIG-11111111-2222-3333-4444-555555555555",
        "error nvmlDeviceGetMemoryInfo* NO_PERMISSION gpu 1",
    ]
    reading = await drive(*lines).check()
    assert troubles(reading) == []
    assert value(reading, "mig_mode", gpu=1) == 1
    assert value(reading, "mig_instances", gpu=1) == 1
    (instance,) = reading.facts["gpus"][1]["mig_instances"]
    assert instance["uuid"] == "MIG-11111111-2222-3333-4444-555555555555"
    assert value(reading, "mig_mode", gpu=0) == 0


async def test_a_card_without_the_extras_has_none_of_their_numbers(drive: Drive) -> None:
    extras = [
        "ecc.corrected.volatile.total",
        "ecc.corrected.aggregate.total",
        "ecc.uncorrected.volatile.total",
    ]
    extras += [
        "ecc.uncorrected.aggregate.total",
        "remapped.corrected",
        "nvlink.count",
        "pcie.replays",
        "fan.speed",
    ]
    reading = await drive(*(f"{extra} absent gpu 1" for extra in extras)).check()
    assert troubles(reading) == []
    names = {s.name for s in reading.samples if dict(s.labels).get("gpu") == "1"}
    gone = {"ecc_errors_total", "remapped_rows", "nvlink_up", "nvlink_errors_total", "pcie_replays_total"}
    assert not names & (gone | {"fan_speed_ratio"})


async def test_retired_pages_are_judged_by_their_number_and_by_what_waits(drive: Drive) -> None:
    pages = [f"gpu 1 page double {hex(4096 * page)} 1700000000" for page in range(3)]
    driven = drive(*pages, "retired.pending 0", retired_pages_unhealthy=3)
    finding = found(await driven.check(), "retired_pages", "gpu 1")
    assert (finding.status, finding.advice) == (Status.UNHEALTHY, Advice.REPLACE_HARDWARE)
    driven.steer(*pages[:2], "retired.pending 1")
    reading = await driven.check()
    finding = found(reading, "retired_pages", "gpu 1")
    assert (finding.status, finding.advice) == (Status.DEGRADED, Advice.RESET_GPU)
    assert values(reading, "retired_pages", 1) == {("single_bit",): 0, ("double_bit",): 2, ("pending",): 1}


async def test_xids_that_are_missed_are_told_and_waited_for_again(drive: Drive) -> None:
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


@pytest.mark.parametrize("name", build.scenarios())
async def test_every_kind_of_host_is_healthy_while_nothing_is_wrong(drive: Drive, name: str) -> None:
    driven = drive()
    build.steer(driven.file, build.scenario(name).read_text())
    reading = await driven.check()
    assert troubles(reading) == []
    assert reading.facts["gpus"]


async def test_processes_are_listed_only_if_wanted_and_no_more_than_allowed(drive: Drive) -> None:
    lines = [f"gpu 1 process compute {pid} {pid}MiB" for pid in range(100, 110)]
    driven = drive(*lines)
    assert "processes" not in (await driven.check()).facts["gpus"][1]
    driven.table |= {"processes": True, "processes_most": 2}
    await driven.restart()
    reading = await driven.check()
    listed = reading.facts["gpus"][1]["processes"]
    assert listed == [{"pid": 109, "memory_bytes": 109 * 2**20}, {"pid": 108, "memory_bytes": 108 * 2**20}]
    assert value(reading, "processes", gpu=1) == 10


@contextmanager
def program(*words: str) -> Iterator[int]:
    """The pid of a process with *words* in its command line."""
    with subprocess.Popen([sys.executable, "-c", "input()", *words], stdin=subprocess.PIPE) as process:
        try:
            yield process.pid
        finally:
            process.kill()


async def test_trouble_of_a_card_names_the_models_on_it_and_only_trouble_does(drive: Drive) -> None:
    with program("7", "9", "models:/churn/7") as ours, program("-m", "models:/fraud@champion") as theirs:
        tenants = [f"gpu 1 process compute {pid} 1GiB" for pid in (ours, theirs, os.getpid())]
        driven = drive(*tenants)
        reading = await driven.check()
        assert reading.facts["gpus"][1]["models"] == ["models:/churn/7", "models:/fraud@champion"]
        assert "models" not in reading.facts["gpus"][0]
        assert not any("churn" in finding.summary for finding in reading.findings)
        driven.steer(*tenants, "xid 48 gpu 1", "xid 48 gpu 0")
        reading = await until(driven, lambda told: len(troubles(told)) == 2)
        told = found(reading, "xid", "gpu 1").summary
        assert told.endswith("; models on it: churn version 7, fraud@champion")
        assert "models" not in found(reading, "xid", "gpu 0").summary


@pytest.mark.parametrize(("fault", "name"), [("lost gpu 1", "gpu_answers"), ("gone gpu 1", "gpu_missing")])
async def test_a_card_that_is_no_longer_there_names_the_model_that_was_on_it(
    drive: Drive, fault: str, name: str
) -> None:
    with program("models:/churn/7") as pid:
        tenant = f"gpu 1 process compute {pid} 1GiB"
        driven = drive(tenant)
        await driven.check()
    driven.steer(tenant, fault)  # and the process has ended, as it does
    for _ in range(2):
        told = found(await driven.check(), name, "gpu 1").summary
        assert told.endswith("; model on it: churn version 7")


async def test_a_model_that_has_left_a_card_is_not_named(drive: Drive) -> None:
    with program("models:/churn/7") as pid:
        driven = drive(f"gpu 1 process compute {pid} 1GiB")
        await driven.check()
        driven.steer()
        await driven.check()
    driven.steer("lost gpu 1")
    assert "churn" not in found(await driven.check(), "gpu_answers", "gpu 1").summary


@contextmanager
def nested_program(word: str) -> Iterator[int]:
    """The pid of a child of a process with *word* in its command line."""
    inner = "import os; print(os.getpid(), flush=True); input()"
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"
    words = [sys.executable, "-c", outer, word]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())
        process.communicate("\n")


async def test_a_model_is_found_by_a_process_that_descends_from_its_own(drive: Drive) -> None:
    with nested_program("models:/churn/7") as pid:
        driven = drive(f"gpu 0 process compute {pid} 1GiB")
        assert (await driven.check()).facts["gpus"][0]["models"] == ["models:/churn/7"]


async def test_processes_that_may_not_be_listed_are_no_trouble_unless_they_are_wanted(drive: Drive) -> None:
    refused = "error nvmlDeviceGetComputeRunningProcesses* NO_PERMISSION"
    driven = drive(refused)
    assert troubles(await driven.check()) == []
    driven.table |= {"processes": True}
    await driven.restart()
    assert {name for name, *_ in troubles(await driven.check())} == {"processes"}


async def test_each_number_is_what_the_driver_says_in_base_units(drive: Drive) -> None:
    driven = drive(
        "slowed.hw_thermal 2000000000",
        "pcie.tx 5",
        "pcie.rx 6",
        "fan.count 1",
        "fan.speed 30",
        pcie_throughput=True,
    )
    reading = await driven.check()
    expected = {
        "utilization_ratio": {("compute",): 0.6, ("memory",): 0.2, ("encoder",): 0.03, ("decoder",): 0.04},
        "memory_total_bytes": {(): 80 * 2**30},
        "memory_used_bytes": {(): 20 * 2**30},
        "memory_free_bytes": {(): 59 * 2**30},
        "temperature_celsius": {("gpu",): 50, ("memory",): 60},
        "temperature_limit_celsius": {("slowdown",): 87, ("shutdown",): 92, ("memory_max",): 95},
        "power_watts": {(): 300},
        "power_limit_watts": {(): 700},
        "energy_joules_total": {(): 1000},
        "clock_hertz": {("graphics",): 1.97e9, ("sm",): 1.98e9, ("memory",): 2.619e9, ("video",): 1.5e9},
        "throttled_seconds_total": {("power",): 1.5, ("thermal",): 0, ("hw_thermal",): 2},
        "fan_speed_ratio": {(): 0.3},
        "ecc_errors_total": {
            ("corrected", "volatile"): 2,
            ("corrected", "aggregate"): 4,
            ("uncorrected", "volatile"): 0,
            ("uncorrected", "aggregate"): 1,
        },
        "remapped_rows": {("corrected",): 1, ("uncorrected",): 0, ("pending",): 0, ("failed",): 0},
        "pcie_link_generation": {(): 5},
        "pcie_link_width": {(): 16},
        "pcie_replays_total": {(): 7},
        "pcie_throughput_bytes_per_second": {("send",): 5 * 1024, ("receive",): 6 * 1024},
        "nvlink_up": {(str(link),): 1 for link in range(4)},
        "performance_state": {(): 0},
        "persistence_mode": {(): 1},
    }
    assert {name: values(reading, name) for name in expected} == expected
    assert values(reading, "nvlink_errors_total")["3", "crc_flit"] == 5


async def test_a_full_disk_is_told_and_costs_no_reading(drive: Drive) -> None:
    driven = drive()
    driven.state.rmdir()
    finding = found(await driven.check(), "past")
    assert finding.status is Status.DEGRADED
    assert "a restart forgets the XIDs" in finding.summary


async def test_many_cycles_leave_memory_and_descriptors_where_they_were(drive: Drive) -> None:
    driven = drive(cards=1)
    await driven.check()
    pid = process_of(driven)
    for _ in range(100):
        await driven.check()
    before = resident(pid), descriptors(pid)
    for _ in range(400):
        await driven.check()
    assert descriptors(pid) == before[1]
    assert resident(pid) < before[0] + 2**20


def process_of(driven: Driven) -> int:
    starting = driven.worker._starting
    assert starting is not None
    return starting.result().pid


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def resident(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))
