"""A driver that fails as a whole, hangs, is slow, goes away or is reloaded."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from mlopsd.probe import Advice, Status
from mlopsd_probes.fake_nvml import build
from tests.gpu.driving import (
    Drive,
    descriptors,
    found,
    library,
    process_of,
    resident,
    troubles,
    value,
    values,
)


@pytest.mark.parametrize(
    ("error", "status", "advice", "words"),
    [
        ("DRIVER_NOT_LOADED", Status.UNKNOWN, Advice.FIX_CONFIG, "not loaded"),
        ("LIB_RM_VERSION_MISMATCH", Status.UNHEALTHY, Advice.REBOOT, "different versions"),
        ("NO_PERMISSION", Status.UNKNOWN, Advice.FIX_CONFIG, "DeviceAllow=char-nvidia*"),
        ("UNKNOWN", Status.UNKNOWN, Advice.RESTART_APP, "Unknown Error"),
    ],
)
async def test_a_driver_that_does_not_initialise_is_reported_with_its_fix_and_recovers(
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


async def test_no_library_is_reported_with_its_fix(drive: Drive, monkeypatch: pytest.MonkeyPatch) -> None:
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


async def test_a_driver_that_goes_away_while_running_is_reported_and_comes_back(drive: Drive) -> None:
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
    while driven.worker.pause > 0:  # until another process may start
        await asyncio.sleep(0.05)
    assert troubles(await driven.check()) == []


async def test_a_call_that_takes_4_s_costs_time_and_nothing_else(drive: Drive) -> None:
    driven = drive()
    await driven.check()
    driven.steer("delay nvmlDeviceGetPowerUsage 4s gpu 1")
    began = time.monotonic()
    assert troubles(await driven.check()) == []
    assert time.monotonic() - began > 3.9


async def test_a_call_that_the_driver_does_not_know_is_absent(drive: Drive) -> None:
    calls = ("nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetFieldValues", "nvmlDeviceGetRemappedRows")
    reading = await drive(*(f"missing {call}" for call in calls)).check()
    assert troubles(reading) == []
    assert value(reading, "memory_total_bytes") == 80 * 2**30  # by the older call
    assert values(reading, "remapped_rows") == {}


@pytest.mark.parametrize(
    ("call", "name", "status"),
    [
        ("nvmlDeviceGetTemperature", "temperature", Status.UNKNOWN),
        ("nvmlDeviceGetTotalEccErrors", "ecc_uncorrected", Status.UNKNOWN),
        ("nvmlDeviceGetUtilizationRates", "utilization", Status.DEGRADED),
        ("nvmlDeviceGetFanSpeed", "fan", Status.DEGRADED),
    ],
)
async def test_an_unknown_error_takes_one_check_one_card(
    drive: Drive, call: str, name: str, status: Status
) -> None:
    reading = await drive(f"error {call} UNKNOWN gpu 1").check()
    finding = found(reading, name, "gpu 1")
    assert finding.status is status
    assert "Unknown Error" in finding.summary
    assert found(reading, "gpu_answers", "gpu 1").status is Status.HEALTHY
    assert all(subject in ("gpu 1", None) for _, subject, _ in troubles(reading))


async def test_a_full_disk_is_reported_and_costs_no_reading(drive: Drive) -> None:
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


@pytest.mark.parametrize(
    ("error", "advice"), [("GPU_IS_LOST", Advice.REBOOT), ("RESET_REQUIRED", Advice.RESET_GPU)]
)
async def test_a_card_that_keeps_the_driver_from_starting_is_unhealthy(
    drive: Drive, error: str, advice: Advice
) -> None:
    driven = drive(f"init error {error}")
    driven.on_bus("0000:01:00.0")
    finding = found(await driven.check(), "driver")
    assert (finding.status, finding.advice) == (Status.UNHEALTHY, advice)
    assert "0000:01:00.0" in finding.summary


async def test_a_driver_that_cannot_count_its_cards_is_unknown_and_recovers(drive: Drive) -> None:
    driven = drive()
    await driven.check()
    driven.steer("error nvmlDeviceGetCount* UNKNOWN")
    assert found(await driven.check(), "driver").status is Status.UNKNOWN
    driven.steer()
    assert troubles(await driven.check()) == []


async def test_after_an_upgrade_the_library_is_loaded_from_disk_again(
    drive: Drive, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "lib" / build.LIBRARY
    built = library(tmp_path_factory) / build.LIBRARY
    replace(built, file)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(file.parent))
    driven = drive()
    assert troubles(await driven.check()) == []
    driven.steer("error * LIB_RM_VERSION_MISMATCH")
    assert found(await driven.check(), "driver").status is Status.UNHEALTHY
    replace(built, file)
    driven.steer()
    assert troubles(await driven.check()) == []
    assert mapped(process_of(driven), file) == {str(file.stat().st_ino)}


def mapped(pid: int, file: Path) -> set[str]:
    """The inodes of what the process has loaded from *file*."""
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return {line.split()[4] for line in lines if str(file) in line}


def replace(library: Path, file: Path) -> None:
    """Put a copy of *library* at *file*, as a package manager does: another file of the same name."""
    file.parent.mkdir(exist_ok=True)
    draft = file.with_suffix(".new")
    draft.write_bytes(library.read_bytes())
    draft.replace(file)
