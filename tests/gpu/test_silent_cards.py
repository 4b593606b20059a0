"""Cards that answer nothing, and hosts on which none answers."""

import logging
import os
from pathlib import Path

import pynvml
import pytest

from mlopsd.board import Board
from mlopsd.entry import Terms
from mlopsd.probe import Advice, Finding, Reading, Status
from mlopsd_probes.container import is_container
from mlopsd_probes.fake_nvml import build
from mlopsd_probes.gpu import driver_status
from mlopsd_probes.gpu.driver import LOST_RETRY, Driver
from mlopsd_probes.gpu.driver_status import Access, cause_of, may_open
from mlopsd_probes.gpu.history import CardHistory
from mlopsd_probes.gpu.options import GpuOptions
from tests.gpu.driving import Drive, Driven, found, troubles, until, value, values

ALL = "error nvmlDevice* UNKNOWN"


def every(cards: int, error: str = "UNKNOWN", call: str = "nvmlDevice*") -> list[str]:
    """The lines that make each of *cards* answer *error*."""
    return [f"error {call} {error} gpu {card}" for card in range(cards)]


def host(driven: Driven, *, container: bool = False, nvidiactl: bool | None = None) -> None:
    """Give the host of *driven* the marks of a container, and the driver's control device."""
    root = driven.sysfs.parent
    if container:
        (root / ".dockerenv").touch()
    if nvidiactl is not None:
        (root / "dev").mkdir()
        (root / "dev/nvidiactl").touch()


def of_card(reading: Reading, gpu: int) -> list[Finding]:
    return [f for f in reading.findings if f.subject == f"gpu {gpu}" and f.status is not Status.HEALTHY]


@pytest.mark.parametrize("scenario", [ALL, "error nvmlDeviceGet* UNKNOWN"])
async def test_a_card_that_comes_to_answer_only_unknown_error_is_lost(drive: Drive, scenario: str) -> None:
    driven = drive(cards=8)
    assert troubles(await driven.check()) == []
    driven.steer(f"{scenario} gpu 2")
    reading = await driven.check()
    (lost,) = of_card(reading, 2)
    assert (lost.name, lost.status, lost.advice) == ("gpu_answers", Status.UNHEALTHY, Advice.REBOOT)
    assert "see dmesg for XID 79" in reading.summary
    count = found(reading, "gpu_count")
    assert (count.status, count.observed, count.limit) == (Status.UNHEALTHY, 7, 8)
    assert count.summary == "7 GPUs of 8 answer"
    assert value(reading, "devices", gpu=None) == 7
    assert values(reading, "temperature_celsius", 2) == {}
    assert len(troubles(reading)) == 2
    driven.steer()
    assert troubles(await driven.check()) == []


@pytest.mark.parametrize("call", ["nvmlDeviceGetHandleByIndex*", "nvmlDeviceGetUUID", "nvmlDevice*"])
async def test_a_card_that_answers_unknown_error_from_the_start_is_lost(drive: Drive, call: str) -> None:
    reading = await drive(f"error {call} UNKNOWN gpu 2", cards=8).check()
    (lost,) = of_card(reading, 2)
    assert (lost.name, lost.status, lost.advice) == ("gpu_answers", Status.UNHEALTHY, Advice.REBOOT)
    assert "gpu 2 (GPU) is lost" in lost.summary
    assert "see dmesg for XID 79" in lost.summary
    assert found(reading, "gpu_count").observed == 7
    assert len(troubles(reading)) == 2


async def test_the_fields_picture_of_xid_79_is_one_lost_card(drive: Drive) -> None:
    driven = drive()
    text = build.scenario("dgx-a100-8").read_text()
    build.steer(driven.file, text)
    assert troubles(await driven.check()) == []
    build.steer(driven.file, f"{text}\n{ALL} gpu 2\n")
    reading = await driven.check()
    assert [(name, subject) for name, subject, _ in troubles(reading)] == [
        ("gpu_answers", "gpu 2"),
        ("gpu_count", None),
    ]


@pytest.mark.parametrize(
    ("error", "status", "advice"),
    [
        ("UNKNOWN", Status.UNHEALTHY, Advice.REBOOT),
        ("GPU_IS_LOST", Status.UNHEALTHY, Advice.REBOOT),
        ("GPU_NOT_FOUND", Status.UNHEALTHY, Advice.REBOOT),
        ("IRQ_ISSUE", Status.UNHEALTHY, Advice.REBOOT),
        ("RESET_REQUIRED", Status.UNHEALTHY, Advice.RESET_GPU),
        ("TIMEOUT", Status.UNHEALTHY, Advice.RESET_GPU),
        ("INSUFFICIENT_POWER", Status.UNHEALTHY, Advice.CHECK_HARDWARE),
        ("CORRUPTED_INFOROM", Status.UNHEALTHY, Advice.REPLACE_HARDWARE),
        ("INVALID_STATE", Status.UNHEALTHY, Advice.RESET_GPU),
        ("NO_PERMISSION", Status.UNKNOWN, Advice.FIX_CONFIG),
        ("OPERATING_SYSTEM", Status.UNKNOWN, Advice.FIX_CONFIG),
        ("MEMORY", Status.UNKNOWN, Advice.FREE_RESOURCES),
        ("IN_USE", Status.UNKNOWN, Advice.RESTART_APP),
        ("INVALID_ARGUMENT", Status.UNKNOWN, Advice.RESTART_APP),
    ],
)
async def test_what_a_card_answers_to_everything_decides(
    drive: Drive, error: str, status: Status, advice: Advice
) -> None:
    driven = drive()
    await driven.check()
    driven.steer(f"error nvmlDevice* {error} gpu 1")
    reading = await driven.check()
    (finding,) = of_card(reading, 1)
    assert (finding.name, finding.status, finding.advice) == ("gpu_answers", status, advice)
    count = found(reading, "gpu_count")
    assert (count.status, count.observed) == (status, 1)
    assert found(reading, "gpu_answers", "gpu 0").status is Status.HEALTHY


@pytest.mark.parametrize(
    "answered",
    [
        "nvmlDeviceGetTemperature",
        "nvmlDeviceGetClockInfo",
        "nvmlDeviceGetPowerUsage",
        "nvmlDeviceGetMemoryInfo",
    ],
)
async def test_a_card_of_which_one_essential_query_works_is_not_lost(drive: Drive, answered: str) -> None:
    driven = drive()
    await driven.check()
    driven.steer(f"{ALL} gpu 1", f"error {answered} TIMEOUT times 0 gpu 1", f"delay {answered} 0s gpu 1")
    reading = await driven.check()
    assert found(reading, "gpu_answers", "gpu 1").status is Status.HEALTHY
    assert len(of_card(reading, 1)) > 5
    assert found(reading, "gpu_count").observed == 2


async def test_a_card_that_has_few_sensors_is_not_lost_by_one_bad_one(drive: Drive) -> None:
    driven = drive("error nvmlDeviceGet* NOT_SUPPORTED gpu 1", "error nvmlDeviceGetPowerUsage UNKNOWN gpu 1")
    reading = await driven.check()
    assert [(f.name, f.status) for f in of_card(reading, 1)] == [("power", Status.DEGRADED)]


async def test_a_split_card_that_forbids_everything_is_not_lost(drive: Drive) -> None:
    driven = drive("mig.mode 1", "mig.pending 1")
    await driven.check()
    driven.steer(
        *("mig.mode 1", "mig.pending 1"),
        *("error nvmlDeviceGet* NO_PERMISSION gpu 1", "delay nvmlDeviceGetMigMode 0s gpu 1"),
    )
    assert of_card(await driven.check(), 1) == []


@pytest.mark.parametrize("call", ["nvmlDevice*", "nvmlDeviceGetHandleByIndex*"])
@pytest.mark.parametrize("cards", [1, 3])
@pytest.mark.parametrize(
    ("container", "nvidiactl", "status", "advice", "words"),
    [
        (True, None, Status.UNKNOWN, Advice.RESTART_APP, "restart the container"),
        (True, True, Status.UNKNOWN, Advice.RESTART_APP, "restart the container"),
        (False, None, Status.UNKNOWN, Advice.RESTART_APP, "DeviceAllow"),
        (False, True, Status.UNHEALTHY, Advice.REBOOT, "see dmesg for"),
    ],
)
async def test_where_no_card_answers_none_is_blamed_alone(
    drive: Drive,
    call: str,
    cards: int,
    *,
    container: bool,
    nvidiactl: bool | None,
    status: Status,
    advice: Advice,
    words: str,
) -> None:
    driven = drive(*every(cards, call=call), cards=cards)
    host(driven, container=container, nvidiactl=nvidiactl)
    reading = await driven.check()
    is_lost = cards == 1 and status is Status.UNHEALTHY  # with access a single card has itself to blame
    finding = found(reading, "gpu_answers", "gpu 0") if is_lost else found(reading, "driver")
    assert (finding.status, finding.advice) == (status, advice)
    assert words in finding.summary
    assert "Unknown Error" in finding.summary
    assert found(reading, "gpu_count").status is status
    assert value(reading, "devices", gpu=None) == 0
    assert len(troubles(reading)) == 2
    assert max(f.advice for f in reading.findings) is advice
    assert {card["status"] for card in reading.facts["gpus"]} == {str(status)}


async def test_access_that_is_back_is_noticed_while_the_handles_are_kept(drive: Drive) -> None:
    driven = drive()
    await driven.check()
    driven.steer(*every(2))
    assert found(await driven.check(), "driver").status is Status.UNKNOWN
    driven.steer()
    assert troubles(await driven.check()) == []


async def test_a_driver_that_hangs_for_every_card_is_reported_once(drive: Drive) -> None:
    driven = drive()
    await driven.check()
    driven.steer(*every(2, "TIMEOUT"))
    reading = await driven.check()
    assert (found(reading, "driver").status, found(reading, "driver").advice) == (
        Status.UNHEALTHY,
        Advice.RESTART_APP,
    )
    assert len(troubles(reading)) == 2


@pytest.mark.parametrize("container", [False, True])
async def test_a_recorded_xid_79_stays_what_it_is_whatever_the_answers(
    drive: Drive, *, container: bool
) -> None:
    driven = drive()
    host(driven, container=container)
    await driven.check()
    driven.steer("xid 79 gpu 1")
    await until(driven, lambda reading: reading.status is Status.UNHEALTHY)
    driven.steer("xid 79 gpu 1", *every(2))
    reading = await driven.check()
    xid = found(reading, "xid", "gpu 1")
    assert (xid.status, xid.advice) == (Status.UNHEALTHY, Advice.REBOOT)
    assert found(reading, "gpu_answers", "gpu 1").advice is Advice.REBOOT
    assert found(reading, "gpu_answers", "gpu 1").lasting
    assert [f for f in of_card(reading, 0) if f.name == "gpu_answers"] == []
    assert found(reading, "driver").status is Status.UNKNOWN


async def test_cards_that_name_their_trouble_keep_their_own_findings(drive: Drive) -> None:
    driven = drive()
    await driven.check()
    driven.steer("lost gpu 0", "lost gpu 1")
    reading = await driven.check()
    assert found(reading, "driver").status is Status.HEALTHY
    for gpu in (0, 1):
        assert [(f.name, f.advice) for f in of_card(reading, gpu)] == [("gpu_answers", Advice.REBOOT)]


@pytest.mark.parametrize(
    ("container", "nvidiactl", "status", "advice", "words"),
    [
        (True, None, Status.UNKNOWN, Advice.RESTART_APP, "restart the container"),
        (False, None, Status.UNKNOWN, Advice.RESTART_APP, "DeviceAllow"),
        (False, True, Status.UNHEALTHY, Advice.REBOOT, "dmesg"),
    ],
)
async def test_unknown_error_when_nvml_is_initialised_has_the_same_text(
    drive: Drive, *, container: bool, nvidiactl: bool | None, status: Status, advice: Advice, words: str
) -> None:
    driven = drive("init error UNKNOWN")
    host(driven, container=container, nvidiactl=nvidiactl)
    finding = found(await driven.check(), "driver")
    assert (finding.status, finding.advice) == (status, advice)
    assert words in finding.summary


async def test_a_container_marked_by_kubernetes_is_one(drive: Drive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert found(await drive("init error UNKNOWN").check(), "driver").advice is Advice.RESTART_APP


async def test_cards_that_a_container_was_not_given_are_not_missed(drive: Drive) -> None:
    driven = drive(cards=1)
    host(driven, container=True)
    for address in ("0000:01:00.0", "0000:81:00.0", "0000:91:00.0"):
        driven.on_bus(address)
    reading = await driven.check()
    assert troubles(reading) == []
    summary = "1 GPU of 1 answers; 2 other GPUs of the host are not visible in this container"
    assert found(reading, "gpu_count").summary == summary
    driven.table["expected_count"] = 3
    await driven.restart()
    reading = await driven.check()
    finding = found(reading, "gpu_count")
    assert (finding.status, finding.advice) == (Status.UNHEALTHY, Advice.FIX_CONFIG)
    assert len(troubles(reading)) == 1


@pytest.mark.parametrize(("container", "advice"), [(True, Advice.FIX_CONFIG), (False, Advice.REBOOT)])
async def test_fewer_cards_than_expected_are_no_reason_to_reboot_in_a_container(
    drive: Drive, *, container: bool, advice: Advice
) -> None:
    driven = drive(cards=1, expected_count=2)
    host(driven, container=container)
    finding = found(await driven.check(), "gpu_count")
    assert (finding.status, finding.advice) == (Status.UNHEALTHY, advice)
    assert finding.lasting == (not container)


@pytest.mark.parametrize(("container", "advice"), [(True, Advice.RESTART_APP), (False, Advice.REBOOT)])
async def test_a_library_of_another_version_is_no_reason_to_reboot_in_a_container(
    drive: Drive, *, container: bool, advice: Advice
) -> None:
    driven = drive("init error LIB_RM_VERSION_MISMATCH")
    driven.on_bus("0000:01:00.0")
    host(driven, container=container)
    finding = found(await driven.check(), "driver")
    assert (finding.status, finding.advice) == (Status.UNHEALTHY, advice)
    assert finding.lasting == (not container)
    assert ("restart the container" in finding.summary) == container
    assert "0000:01:00.0" in finding.summary


@pytest.mark.parametrize("call", ["nvmlDevice*", "nvmlDeviceGetHandleByIndex*"])
@pytest.mark.parametrize(("container", "advice"), [(True, Advice.RESTART_APP), (False, Advice.REBOOT)])
async def test_devices_that_go_in_the_middle_of_a_check_leave_nothing_that_lasts(
    drive: Drive, call: str, *, container: bool, advice: Advice
) -> None:
    driven = drive(*(f"error {call} UNKNOWN gpu {card}" for card in (1, 2)), cards=3)
    host(driven, container=container)
    board = Board()
    board.enrol("gpu", "gpu", Terms(15, 10))
    reading = await driven.check()
    board.record("gpu", reading, 0)
    for card in (1, 2):
        (finding,) = of_card(reading, card)
        assert (finding.name, finding.status, finding.advice) == ("gpu_answers", Status.UNHEALTHY, advice)
        assert not finding.lasting
    assert max(finding.advice for finding in reading.findings) is advice
    driven.steer(*every(3))
    reading = await driven.check()
    assert found(reading, "driver").status is Status.UNKNOWN
    assert board.record("gpu", reading, 0).kept == ()
    board.close()


@pytest.mark.parametrize("error", ["TIMEOUT", "INVALID_STATE"])
async def test_an_error_that_proves_no_loss_does_not_last(drive: Drive, error: str) -> None:
    driven = drive()
    await driven.check()
    driven.steer(f"error nvmlDeviceGet* {error} gpu 1")
    (finding,) = of_card(await driven.check(), 1)
    assert finding.status is Status.UNHEALTHY
    assert (finding.name, finding.lasting) == ("gpu_answers", False)


async def test_a_card_that_is_gone_from_a_container_is_no_reason_to_reboot(drive: Drive) -> None:
    driven = drive(cards=3)
    host(driven, container=True)
    await driven.check()
    driven.steer("gone gpu 2", "counted anew")
    reading = await driven.check()
    finding = found(reading, "gpu_missing", "gpu 2")
    assert (finding.status, finding.advice) == (Status.UNHEALTHY, Advice.FIX_CONFIG)
    assert max(f.advice for f in reading.findings) is Advice.FIX_CONFIG


@pytest.mark.parametrize(
    ("found_out", "status", "advice"),
    [
        (Access(in_container=True, to_driver=False), Status.UNKNOWN, Advice.RESTART_APP),
        (Access(in_container=False, to_driver=False), Status.UNKNOWN, Advice.FIX_CONFIG),
        (Access(in_container=False, to_driver=None), Status.UNKNOWN, Advice.RESTART_APP),
        (Access(in_container=False, to_driver=True), Status.UNHEALTHY, Advice.REBOOT),
    ],
)
def test_a_reboot_is_advised_only_on_evidence(found_out: Access, status: Status, advice: Advice) -> None:
    reported, _, what = cause_of(found_out)
    assert (reported, what) == (status, advice)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        (".dockerenv", ""),
        ("run/.containerenv", ""),
        ("run/systemd/container", "lxc"),
        ("proc/1/environ", "PATH=/bin\0container=podman\0"),
    ],
)
def test_a_container_is_known_by_its_marks(tmp_path: Path, file: str, text: str) -> None:
    assert not is_container(tmp_path, {})
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text(text)
    assert is_container(tmp_path, {})


def test_a_host_without_such_marks_is_none(tmp_path: Path) -> None:
    (tmp_path / "proc/1").mkdir(parents=True)
    (tmp_path / "proc/1/environ").write_text("PATH=/bin\0not_a_container=1\0")
    assert not is_container(tmp_path, {"PATH": "/bin"})
    assert is_container(tmp_path, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"})


def test_only_a_refusal_says_that_access_was_taken_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = tmp_path / "nvidiactl"
    assert may_open(device) is None
    device.touch()
    assert may_open(device) is True

    def refuse(path: Path, flags: int) -> int:
        raise PermissionError(1, os.strerror(1), str(path))

    monkeypatch.setattr(os, "open", refuse)
    assert may_open(device) is False


@pytest.mark.parametrize(
    ("allowed", "advice", "words"),
    [
        (False, Advice.FIX_CONFIG, "DeviceAllow"),
        (True, Advice.FIX_CONFIG, "modprobe"),
        (None, Advice.FIX_CONFIG, "modprobe"),
    ],
)
def test_a_driver_that_may_not_be_opened_is_not_called_not_loaded(
    *, allowed: bool | None, advice: Advice, words: str
) -> None:
    error = pynvml.NVMLError(pynvml.NVML_ERROR_DRIVER_NOT_LOADED)
    finding = driver_status.absent(error, GpuOptions(), {}, Access(in_container=False, to_driver=allowed))
    assert (finding.status, finding.advice) == (Status.UNKNOWN, advice)
    assert words in finding.summary


@pytest.mark.parametrize(
    ("error", "is_loss"),
    [
        (pynvml.NVML_ERROR_GPU_IS_LOST, True),
        (pynvml.NVML_ERROR_UNKNOWN, True),
        (pynvml.NVML_ERROR_TIMEOUT, False),
        (pynvml.NVML_ERROR_NO_PERMISSION, False),
    ],
)
def test_a_card_lost_from_the_start_is_tried_again_only_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int, *, is_loss: bool
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", asked.append)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetUUID", lambda handle: "GPU-1")
    time = [0.0]
    driver = Driver(
        tmp_path, CardHistory(tmp_path, lambda: "boot"), logging.getLogger("test"), lambda: time[0]
    )
    driver.unidentified = {1: pynvml.NVMLError(error)}
    assert driver.can_be_asked(1) is not is_loss
    assert asked == ([] if is_loss else [1])
    driver.note_loss(lost=True)
    time[0] = LOST_RETRY - 1
    assert driver.overdue() is None
    time[0] = LOST_RETRY
    assert driver.overdue() is not None
