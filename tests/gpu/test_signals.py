"""The signals of a card: each number, each limit, and missing ones."""

import asyncio
from pathlib import Path

import pytest

from mlopsd.probe import Advice, Status
from tests.gpu.driving import (
    Drive,
    found,
    troubles,
    until,
    value,
    values,
)


@pytest.mark.parametrize("error", ["NOT_SUPPORTED", "NO_DATA", "NOT_READY", "DEPRECATED"])
async def test_what_a_card_does_not_have_is_absent_and_never_zero(drive: Drive, error: str) -> None:
    reading = await drive(f"error nvmlDeviceGet* {error} gpu 1").check()
    assert not any(f.status is not Status.HEALTHY and f.subject == "gpu 1" for f in reading.findings)
    names = {s.name for s in reading.samples if dict(s.labels).get("gpu") == "1"}
    assert names == {"info"}


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


async def test_uncorrected_errors_count_from_the_first_check_and_outlive_the_process(drive: Drive) -> None:
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
        ("temperature.gpu 87", "temperature", Status.UNHEALTHY, Advice.CHECK_HARDWARE),
        ("temperature.memory 90", "memory_temperature", Status.DEGRADED, Advice.WATCH),
        ("temperature.memory 95", "memory_temperature", Status.UNHEALTHY, Advice.CHECK_HARDWARE),
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


async def test_a_card_that_reports_only_how_far_it_is_from_slowing_down_is_judged_by_that(
    drive: Drive,
) -> None:
    lines = ["threshold.slowdown absent", "tlimit.slowdown -2", "temperature.gpu 80"]
    driven = drive(*lines, "temperature.margin 4")
    finding = found(await driven.check(), "temperature", "gpu 1")
    assert (finding.status, finding.limit) == (Status.HEALTHY, 81)
    driven.steer(*lines, "temperature.margin 3")
    assert found(await driven.check(), "temperature", "gpu 1").status is Status.DEGRADED
    driven.steer(*lines, "temperature.margin -2")
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
    driven = drive(busy, idle, pcie_generation_after=1)
    assert troubles(await driven.check()) == []
    driven.steer(busy, idle, "pcie.generation 1")
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


@pytest.mark.parametrize(
    ("reasons", "words"), [("0x8", "by the hardware"), ("0x48", "for heat"), ("0x88", "by the power brake")]
)
async def test_what_the_hardware_slows_down_for_is_reported(drive: Drive, reasons: str, words: str) -> None:
    driven = drive(f"reasons.current {reasons} gpu 1", throttled_degraded=0.01)
    await driven.check()
    reading = await until(driven, lambda reading: reading.status is not Status.HEALTHY)
    assert troubles(reading) == [("throttled", "gpu 1", Status.DEGRADED)]
    assert words in found(reading, "throttled", "gpu 1").summary
    driven.steer()
    assert (await driven.check()).status is Status.DEGRADED  # what was stays in the window


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["fabric.state 1"], "is not in its fabric"),
        (["fabric.health_mask 0x1"], "less bandwidth"),
        (["fabric.health_mask 0x4"], "routes being recovered"),
        (["fabric.health_mask 0x10"], "an unhealthy route"),
        (["fabric.health_mask 0x40"], "access timeouts being recovered"),
    ],
)
async def test_a_fabric_in_trouble_is_reported(drive: Drive, lines: list[str], words: str) -> None:
    reading = await drive(*(f"{line} gpu 1" for line in lines)).check()
    assert troubles(reading) == [("nvlink_fabric", "gpu 1", Status.DEGRADED)]
    assert words in found(reading, "nvlink_fabric", "gpu 1").summary


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("recovery_action UNKNOWN", "recovery_action"),
        ("temperature.memory UNKNOWN", "temperature"),
        ("slowed.hw_thermal TIMEOUT", "throttled"),
        ("nvlink.2.state UNKNOWN", "nvlink"),
        ("nvlink.2.crc_flit UNKNOWN", "nvlink"),
    ],
)
async def test_a_number_among_many_that_cannot_be_read_is_not_taken_for_absent(
    drive: Drive, line: str, name: str
) -> None:
    driven = drive()
    await driven.check()
    driven.steer(f"{line} gpu 1")
    assert troubles(await driven.check()) == [(name, "gpu 1", Status.UNKNOWN)]
    driven.steer()
    assert troubles(await driven.check()) == []


@pytest.mark.parametrize("line", ["recovery_action GPU_IS_LOST", "nvlink.0.state GPU_IS_LOST"])
async def test_a_number_among_many_may_show_that_the_card_is_lost(drive: Drive, line: str) -> None:
    reading = await drive(f"{line} gpu 1").check()
    assert found(reading, "gpu_answers", "gpu 1").status is Status.UNHEALTHY
    assert found(reading, "gpu_answers", "gpu 0").status is Status.HEALTHY


async def test_a_kind_of_error_that_the_links_do_not_count_costs_the_others_nothing(drive: Drive) -> None:
    reading = await drive(
        "nvlink.replay NOT_SUPPORTED gpu 1", "nvlink.recovery INVALID_ARGUMENT gpu 1"
    ).check()
    assert troubles(reading) == []
    counted = {(str(link), kind) for link in range(4) for kind in ("crc_flit", "crc_data")}
    assert set(values(reading, "nvlink_errors_total", 1)) == counted
    assert len(values(reading, "nvlink_errors_total", 0)) == 16


@pytest.mark.parametrize("call", ["nvmlDeviceGetNvLinkState", "nvmlDeviceGetNvLinkErrorCounter"])
async def test_a_driver_that_does_not_know_of_links_has_none(drive: Drive, call: str) -> None:
    reading = await drive(f"missing {call}").check()
    assert troubles(reading) == []
    assert not values(reading, "nvlink_errors_total")


@pytest.mark.parametrize(
    ("line", "call", "times"),
    [
        ("nvlink.count absent", "nvmlDeviceGetNvLinkState", 1),
        ("nvlink.replay NOT_SUPPORTED", "nvmlDeviceGetNvLinkErrorCounter", 1 + 3 * 4),
    ],
)
async def test_what_the_first_link_lacks_the_others_are_not_asked_for(
    drive: Drive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, call: str, times: int
) -> None:
    calls = tmp_path / "calls"
    monkeypatch.setenv("FAKE_NVML_CALLS", str(calls))
    await drive(line, cards=1).check()
    assert int(dict(row.split() for row in calls.read_text().splitlines())[call]) == times


async def test_each_link_is_reported_its_own_errors_as_they_move(drive: Drive) -> None:
    driven = drive("nvlink.1.replay 3", "nvlink.3.crc_data 9")
    for count in (3, 3, 4):
        driven.steer(f"nvlink.1.replay {count}", "nvlink.3.crc_data 9")
        reported = values(await driven.check(), "nvlink_errors_total")
        assert {key: number for key, number in reported.items() if number not in (0, 5)} == {
            ("1", "replay"): count,
            ("3", "crc_data"): 9,
        }


async def test_mig_may_be_switched_on_and_off_while_the_probe_runs(drive: Drive) -> None:
    split = [
        *("mig.mode 1 gpu 1", "mig.pending 1 gpu 1", "mig.max 7 gpu 1", "utilization.gpu absent gpu 1"),
        "error nvmlDeviceGetMemoryInfo* NO_PERMISSION gpu 1",
        "gpu 1 mig 1 0 3g.40gb 42 39GiB 1GiB MIG-11111111-2222-3333-4444-555555555555",
    ]
    driven = drive()
    for lines, mode in (([], 0), (["mig.pending 1 gpu 1"], 0), (split, 1), ([], 0)):
        driven.steer(*lines)
        reading = await driven.check()
        assert troubles(reading) == []
        assert value(reading, "mig_mode", gpu=1) == mode
        assert bool(values(reading, "mig_instances", 1)) == bool(mode)
        assert (("compute",) in values(reading, "utilization_ratio", 1)) == (not mode)
        assert (() in values(reading, "memory_used_bytes", 1)) == (not mode)
        assert ("mig_mode_pending" in reading.facts["gpus"][1]) == (lines == ["mig.pending 1 gpu 1"])


async def test_what_moves_is_read_again_each_time(drive: Drive) -> None:
    moving = {
        "utilization.gpu": ("utilization_ratio", ("compute",), 100),
        "memory.used": ("memory_used_bytes", (), 1),
        "temperature.gpu": ("temperature_celsius", ("gpu",), 1),
        "temperature.memory": ("temperature_celsius", ("memory",), 1),
        "power.enforced": ("power_limit_watts", (), 1000),
        "clock.sm": ("clock_hertz", ("sm",), 1e-6),
        "clock.max.sm": ("clock_limit_hertz", ("sm",), 1e-6),
        "pcie.max_width": ("pcie_link_width_limit", (), 1),
        "pcie.replays": ("pcie_replays_total", (), 1),
        "ecc.corrected.volatile.total": ("ecc_errors_total", ("corrected", "volatile"), 1),
        "pstate": ("performance_state", (), 1),
        "energy": ("energy_joules_total", (), 1000),
    }
    driven = drive()
    for number in (10, 9, 9, 10):
        driven.steer(*(f"{key} {number}" for key in moving))
        reading = await driven.check()
        reported = {key: values(reading, name)[labels] * by for key, (name, labels, by) in moving.items()}
        assert reported == pytest.approx(dict.fromkeys(moving, number))


async def test_who_a_card_is_and_how_it_is_set_up_is_reported(drive: Drive) -> None:
    driven = drive("compute_mode 3 gpu 1", "ecc.mode 0 gpu 1", "ecc.pending 0 gpu 1")
    reading = await driven.check()
    card = reading.facts["gpus"][1]
    reported = {key: card[key] for key in ("compute_mode", "ecc_mode", "vbios", "persistence_mode")}
    expected = {"compute_mode": "exclusive_process", "ecc_mode": False, "persistence_mode": True}
    assert reported == {**expected, "vbios": "96.00.74.00.01"}
    assert reading.facts["nvml"] == "12.550.54.15"
    who = ("NVIDIA H100 80GB HBM3", "0000:02:00.0", "550.54.15", "96.00.74.00.01")
    assert values(reading, "info", 1) == {who: 1}
    assert values(reading, "recovery_action", 1) == {(): 0}
    assert values(reading, "clock_limit_hertz", 1)[("memory",)] == 2.619e9
    assert value(reading, "pcie_link_generation_limit", gpu=1) == 5
    assert value(reading, "pcie_link_width_limit", gpu=1) == 16
