"""Judgements without a driver: limits, windows, counts and history."""

import json
import threading
from pathlib import Path
from typing import Any

import pynvml
import pytest
from pydantic import ValidationError

from mlopsd.pci_bus import PciBus
from mlopsd.probe import Advice, Finding, Status
from mlopsd_probes.gpu import presence
from mlopsd_probes.gpu.card import Card
from mlopsd_probes.gpu.card_errors import fault_of
from mlopsd_probes.gpu.driver import driver_load
from mlopsd_probes.gpu.history import CardHistory, CardRecord
from mlopsd_probes.gpu.options import GpuOptions
from mlopsd_probes.gpu.probe import GpuProbe
from mlopsd_probes.gpu.temperature import gpu_limits
from mlopsd_probes.gpu.throttle import Sustained
from mlopsd_probes.gpu.xid_table import XIDS
from mlopsd_probes.gpu.xids import Xids

CARD = Card(2, "GPU-2", "H100", "0000:03:00.0")


def past(folder: Path, boot: str = "one") -> CardHistory:
    return CardHistory(folder, lambda: boot)


def xid_finding(folder: Path, xid: int, ago: float = 0, **options: Any) -> Finding:
    kept = past(folder)
    kept.record(CARD, xid, at=1000)
    (finding,) = Xids(GpuOptions(**options), kept, clock=lambda: 1000 + ago).collect(CARD).findings
    return finding


def test_what_holds_counts_from_the_check_before_and_falls_out_of_the_window() -> None:
    held = Sustained(60)
    assert held.seen(0, holds=True) == 0
    assert held.seen(15, holds=True) == 15
    assert held.seen(30, holds=False) == 15
    assert held.seen(45, holds=True) == 30
    assert held.seen(70, holds=False) == 20  # 10 to 15, and 30 to 45
    assert held.seen(200, holds=False) == 0


def test_checks_that_find_the_same_take_no_room() -> None:
    held = Sustained(60)
    for at in range(1000):
        held.seen(at, holds=True)
    assert held.seen(1000, holds=True) == 60
    assert len(held.spans) == 1


@pytest.mark.parametrize("xid", [48, 62, 64, 74, 79, 95, 119, 120, 140])
def test_an_xid_that_only_a_reset_ends_counts_however_long_ago_it_was(tmp_path: Path, xid: int) -> None:
    finding = xid_finding(tmp_path, xid, ago=30 * 86400)
    assert (finding.status, finding.advice) == (Status.UNHEALTHY, XIDS[xid].advice)
    assert finding.lasting
    assert finding.advice in (Advice.RESET_GPU, Advice.REBOOT)


@pytest.mark.parametrize("xid", [63, 94])
def test_a_contained_xid_counts_for_a_while(tmp_path: Path, xid: int) -> None:
    assert xid_finding(tmp_path, xid, ago=3599).status is Status.DEGRADED
    assert xid_finding(tmp_path, xid, ago=3600).status is Status.HEALTHY


def test_an_xid_of_before_the_clock_was_set_back_counts_no_longer_than_another(tmp_path: Path) -> None:
    assert xid_finding(tmp_path, 94, ago=-600).status is Status.DEGRADED
    assert xid_finding(tmp_path, 94, ago=-86400).status is Status.HEALTHY
    assert xid_finding(tmp_path, 79, ago=-86400).status is Status.UNHEALTHY


@pytest.mark.parametrize("xid", [13, 31, 43, 45, 137, 9999])
def test_an_xid_of_the_application_or_of_no_table_is_never_the_cards_fault(tmp_path: Path, xid: int) -> None:
    assert xid_finding(tmp_path, xid).status is Status.HEALTHY


def test_the_operators_xids_go_before_the_tables(tmp_path: Path) -> None:
    assert xid_finding(tmp_path, 79, xids_unhealthy=[], xids_degraded=[79]).status is Status.DEGRADED
    assert xid_finding(tmp_path, 31, xids_unhealthy=[31], xids_degraded=[]).status is Status.UNHEALTHY


def test_of_several_xids_the_worst_is_reported(tmp_path: Path) -> None:
    kept = past(tmp_path)
    for xid in (94, 48, 31):
        kept.record(CARD, xid, at=1000)
    (finding,) = Xids(GpuOptions(), kept, clock=lambda: 1001).collect(CARD).findings
    assert "XID 48" in finding.summary


def test_the_past_is_there_again_in_the_same_boot_and_in_no_other(tmp_path: Path) -> None:
    kept = past(tmp_path)
    kept.driver_loaded("550")
    kept.record(CARD, 79, at=5)
    kept.of(CARD).uncorrected = 3
    kept.save()
    again = past(tmp_path)
    assert again.cards == kept.cards
    assert again.xids_of("GPU-2")[79].is_open
    assert past(tmp_path, boot="two").cards == {}


def test_another_load_of_the_driver_ends_what_a_reset_ends_and_keeps_the_counts(tmp_path: Path) -> None:
    kept = past(tmp_path)
    kept.driver_loaded("550")
    kept.record(CARD, 79)
    kept.of(CARD).uncorrected = 3
    kept.driver_loaded("550")
    assert kept.xids_of("GPU-2")[79].is_open
    kept.driver_loaded("560")
    assert not kept.xids_of("GPU-2")[79].is_open
    assert kept.xids_of("GPU-2")[79].count == 1
    assert kept.of(CARD).uncorrected is None


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"boot": "one"}', '{"boot": "one", "driver": "", "cards": {"a": {}}}']
)
def test_a_broken_file_of_the_past_says_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "past.json").write_text(text)
    kept = past(tmp_path)
    assert kept.cards == {}
    kept.record(CARD, 79)
    assert past(tmp_path).xids_of("GPU-2")[79].count == 1


def test_the_past_is_written_only_when_it_changed(tmp_path: Path) -> None:
    kept = past(tmp_path)
    kept.of(CARD)
    kept.save()
    before = kept.file.stat().st_ino
    kept.save()
    assert kept.file.stat().st_ino == before


def test_an_xid_may_come_while_the_past_is_written(tmp_path: Path) -> None:
    kept = past(tmp_path)
    threads = [threading.Thread(target=lambda xid=xid: kept.record(CARD, xid)) for xid in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        kept.save()
        thread.join()
    kept.save()
    reported = json.loads(kept.file.read_text())
    assert len(reported["cards"]["GPU-2"]["xids"]) == 40


def test_a_card_that_is_gone_is_named_with_all_that_distinguishes_it() -> None:
    gone = {"GPU-7": CardRecord(7, "H100", "0000:09:00.0")}
    missing, number = presence.judge(GpuOptions(), [CARD], (), gone, ())
    assert (number.observed, number.limit) == (1, 2)
    assert all(word in missing.summary for word in ("gpu 7", "H100", "0000:09:00.0", "GPU-7"))


def test_a_card_on_the_bus_is_not_missed_while_another_cannot_say_who_it_is() -> None:
    nameless = Card(1, "", "GPU", "")
    findings = presence.judge(GpuOptions(), [CARD, nameless], (1,), {}, [CARD.bus_id, "0000:81:00.0"])
    assert [finding.name for finding in findings] == ["gpu_count"]


@pytest.mark.parametrize(
    ("degrees", "table", "status", "limit"),
    [
        (80, {}, Status.HEALTHY, 85),
        (85, {}, Status.DEGRADED, 85),
        (90, {}, Status.UNHEALTHY, 90),
        (85, {"temperature_margin": 0}, Status.HEALTHY, 90),
        (71, {"temperature_degraded": 70}, Status.DEGRADED, 70),
        (76, {"temperature_unhealthy": 75}, Status.UNHEALTHY, 75),
    ],
)
def test_the_operators_limits_go_before_the_cards(
    degrees: int, table: dict[str, Any], status: Status, limit: float
) -> None:
    assert gpu_limits(90, GpuOptions(**table)).judge(degrees) == (status, limit)


def test_a_card_without_a_limit_is_not_judged() -> None:
    assert gpu_limits(None, GpuOptions()).judge(99) == (Status.HEALTHY, None)


@pytest.mark.parametrize(
    "table",
    [
        {"temperature_degraded": 90, "temperature_unhealthy": 80},
        {"throttled_degraded": 400},
        {"xids_degraded": [48]},
        {"xids_unhealthy": [0]},
        {"expected_count": -1},
        {"on_no_driver": "degraded"},
        {"pcie_busy": 2},
        {"ecc_uncorrected_unhealthy": 0},
    ],
)
def test_keys_that_make_no_sense_are_refused(table: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        GpuOptions(**table)


def test_another_load_of_the_driver_shows_in_sysfs(tmp_path: Path) -> None:
    assert driver_load(tmp_path) == ""
    module = tmp_path / "module/nvidia"
    module.mkdir(parents=True)
    first = driver_load(tmp_path)
    module.rename(tmp_path / "old")
    module.mkdir()
    assert driver_load(tmp_path) not in ("", first)


def test_a_host_without_pci_devices_shows_none(tmp_path: Path) -> None:
    assert PciBus(tmp_path).cards() == {}


def test_the_probe_calls_a_driver_and_therefore_has_a_process_of_its_own() -> None:
    schedule = GpuProbe.schedule
    assert (schedule.interval, schedule.timeout, schedule.isolation) == (15, 10, "process")
    assert (schedule.fail_after, schedule.recover_after) == (1, 2)


def test_a_device_of_the_bus_is_read_once_and_another_in_its_place_is_read_too(tmp_path: Path) -> None:
    bus, device = PciBus(tmp_path), tmp_path / "bus/pci/devices/0000:01:00.0"
    put(device, "0x8086")
    assert bus.cards() == {}
    (device / "vendor").write_text("0x10de\n")  # nothing turns into a GPU where it stands
    assert bus.cards() == {}
    device.rename(tmp_path / "old")
    put(device, "0x10de")
    assert bus.cards() == {"0000:01:00.0": ""}
    (device / "driver").symlink_to("../../drivers/vfio-pci")
    assert bus.cards() == {}
    (device / "driver").unlink()
    (device / "driver").symlink_to("../../drivers/nvidia")
    assert bus.cards() == {"0000:01:00.0": "nvidia"}
    device.rename(tmp_path / "older")
    assert bus.cards() == {}
    assert bus.known == {}


def put(device: Path, vendor: str) -> None:
    device.mkdir(parents=True)
    (device / "vendor").write_text(f"{vendor}\n")
    (device / "class").write_text("0x030200\n")


def test_no_error_of_a_card_is_only_to_be_watched() -> None:
    faults = [fault_of(pynvml.NVMLError(code)) for code in range(1, 1000)]
    assert [fault for fault in faults if fault.advice is Advice.WATCH] == []
