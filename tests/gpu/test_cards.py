"""Which cards there are: lost, gone, back, more than before, left alone."""

from pathlib import Path

import pytest

from mlopsd.probe import Advice, Status
from mlopsd_probes.fake_nvml import build
from tests.gpu.driving import Drive, found, troubles, until, value, values


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
    assert reading.summary == lost.summary, "the number is a consequence"
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


async def test_a_driver_without_a_card_is_not_healthy(drive: Drive) -> None:
    assert (await drive("cards 0", cards=0).check()).status is Status.UNKNOWN


async def test_a_card_that_may_not_be_opened_is_reported_with_its_fix(drive: Drive) -> None:
    finding = found(
        await drive("error nvmlDeviceGetHandleByIndex* NO_PERMISSION").check(), "gpu_answers", "gpu 0"
    )
    assert (finding.status, finding.advice) == (Status.UNKNOWN, Advice.FIX_CONFIG)
    assert "DeviceAllow=char-nvidia*" in finding.summary


@pytest.mark.parametrize("name", build.scenarios())
async def test_every_kind_of_host_is_healthy_while_nothing_is_wrong(drive: Drive, name: str) -> None:
    driven = drive()
    build.steer(driven.file, build.scenario(name).read_text())
    reading = await driven.check()
    assert troubles(reading) == []
    assert reading.facts["gpus"]


async def test_a_card_that_was_gone_is_back(drive: Drive) -> None:
    driven = drive(cards=3)
    await driven.check()
    driven.steer("gone gpu 1", "counted anew")
    assert found(await driven.check(), "gpu_missing", "gpu 1 before").status is Status.UNHEALTHY
    driven.steer("counted anew")
    assert troubles(await driven.check()) == []


async def test_a_card_that_another_has_replaced_is_missed_by_its_uuid(drive: Drive) -> None:
    driven = drive()
    first = await driven.check()
    uuid = first.facts["gpus"][1]["uuid"]
    driven.steer("reload", "uuid GPU-another gpu 1")
    finding = found(await driven.check(), "gpu_missing", "gpu 1 before")
    assert uuid in finding.summary
    assert "gpu_answers" in {f.name for f in (await driven.check()).findings if f.subject == "gpu 1"}


async def test_a_card_that_is_lost_amid_a_check_reports_no_half_of_its_numbers(drive: Drive) -> None:
    reading = await drive("error nvmlDeviceGetPowerUsage GPU_IS_LOST gpu 1").check()
    assert found(reading, "gpu_answers", "gpu 1").status is Status.UNHEALTHY
    assert {s.name for s in reading.samples if dict(s.labels).get("gpu") == "1"} == set()
    assert value(reading, "power_watts", gpu=0) == 300


async def test_a_card_that_is_lost_while_it_is_asked_why_a_check_failed_takes_no_other_along(
    drive: Drive,
) -> None:
    refused = "error nvmlDeviceGetPowerUsage NO_PERMISSION gpu 1"
    driven = drive(refused, "error nvmlDeviceGetMigMode GPU_IS_LOST gpu 1")
    reading = await driven.check()
    assert found(reading, "gpu_answers", "gpu 1").status is Status.UNHEALTHY
    assert found(reading, "gpu_answers", "gpu 0").status is Status.HEALTHY
    driven.steer(refused, "error nvmlDeviceGetMigMode UNKNOWN gpu 1")
    reading = await driven.check()
    assert {(name, subject) for name, subject, _ in troubles(reading)} == {
        ("mig", "gpu 1"),
        ("power", "gpu 1"),
    }


@pytest.mark.parametrize("error", ["NO_PERMISSION", "IN_USE", "TIMEOUT"])
async def test_a_card_that_could_not_be_asked_is_asked_again(drive: Drive, error: str) -> None:
    driven = drive(
        f"error nvmlDeviceGetHandleByIndex* {error} gpu 1", f"error nvmlDeviceGetUUID {error} gpu 1"
    )
    assert found(await driven.check(), "gpu_answers", "gpu 1").status is Status.UNKNOWN
    assert found(await driven.check(), "gpu_answers", "gpu 1").status is Status.UNKNOWN
    driven.steer()
    assert troubles(await driven.check()) == []


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        ("GPU_NOT_FOUND", Advice.REBOOT),
        ("IRQ_ISSUE", Advice.REBOOT),
        ("INSUFFICIENT_POWER", Advice.CHECK_HARDWARE),
        ("CORRUPTED_INFOROM", Advice.REPLACE_HARDWARE),
    ],
)
async def test_why_a_card_does_not_answer_decides_what_is_to_be_done(
    drive: Drive, error: str, advice: Advice
) -> None:
    finding = found(await drive(f"error nvmlDeviceGet* {error} gpu 1").check(), "gpu_answers", "gpu 1")
    assert (finding.status, finding.advice, finding.lasting) == (Status.UNHEALTHY, advice, True)


@pytest.mark.parametrize(
    ("line", "name", "lasting"),
    [
        ("ecc.uncorrected.volatile.total 3", "ecc_uncorrected", True),
        ("remapped.pending 1", "remapped_rows", True),
        ("remapped.failure 1", "remapped_rows", True),
        ("recovery_action 1", "recovery_action", True),
        ("recovery_action 2", "recovery_action", True),
        ("recovery_action 3", "recovery_action", False),  # drain: its work also ends by itself
        ("recovery_action 4", "recovery_action", True),
        ("lost", "gpu_answers", True),
        ("gone", "gpu_missing", True),
        ("temperature.gpu 95", "temperature", False),
    ],
)
async def test_what_holds_until_somebody_acts_is_marked_as_lasting(
    drive: Drive, line: str, name: str, *, lasting: bool
) -> None:
    driven = drive()
    await driven.check()
    driven.steer(f"{line} gpu 1", "counted anew")
    reading = await driven.check()
    (finding,) = [one for one in reading.findings if one.name == name and one.subject == "gpu 1"]
    assert finding.status > Status.HEALTHY
    assert finding.lasting == lasting


async def test_a_card_that_cannot_be_asked_keeps_its_xid(drive: Drive) -> None:
    driven = drive()
    await driven.check()
    driven.steer("xid 79 gpu 1")
    await until(driven, lambda reading: ("xid", "gpu 1", Status.UNHEALTHY) in troubles(reading))
    driven.steer("xid 79 gpu 1", "error nvmlDeviceGetTotalEccErrors TIMEOUT gpu 1")
    reading = await driven.check()
    assert ("ecc_uncorrected", "gpu 1", Status.UNKNOWN) in troubles(reading)
    assert found(reading, "xid", "gpu 1").lasting
    await driven.restart()
    driven.steer("error nvmlDeviceGet* NO_PERMISSION gpu 1")
    reading = await driven.check()
    assert found(reading, "gpu_answers", "gpu 1").status is Status.UNKNOWN
    xid = found(reading, "xid", "gpu 1")
    assert (xid.status, xid.advice, xid.lasting) == (Status.UNHEALTHY, Advice.REBOOT, True)
