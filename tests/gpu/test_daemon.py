"""A real daemon over the fake driver, asked over HTTP as an operator and Prometheus ask it."""

import re
from pathlib import Path
from typing import Any

import pytest

from mlopsd_probes.fake_nvml import build
from tests.cli.command import mlopsd
from tests.gpu.driving import host_of_cards, scenario
from tests.running import Running

TABLE = '[probes.gpu]\ninterval = 0.5\ntimeout = {}\nsysfs_path = "/nonexistent"\n'
PATIENT = TABLE.format(60)


@pytest.fixture
def host(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    return host_of_cards(tmp_path, tmp_path_factory, monkeypatch)


def test_a_lost_gpu_is_named_over_http_and_its_series_are_gone(host: Path, tmp_path: Path) -> None:
    with Running(tmp_path, PATIENT) as daemon:
        assert daemon.until("/health/gpu", lambda reported: reported["status"] == "healthy")["facts"]["gpus"]
        assert daemon.get("/health/").status == 200
        assert 'mlopsd_gpu_power_watts{gpu="1"' in daemon.get("/metrics").body.decode().replace(
            'probe="gpu",', ""
        )
        build.steer(host, scenario("lost gpu 1"))
        reported = daemon.until("/health/gpu", lambda reported: reported["status"] == "unhealthy")
        assert "gpu 1 (NVIDIA H100 80GB HBM3, 0000:02:00.0) is lost" in reported["summary"]
        assert daemon.get("/health/").status == 503
        assert daemon.get("/health/").json["advice"] == "reboot"
        page = daemon.get("/metrics").body.decode().replace('probe="gpu",', "")
        assert 'mlopsd_gpu_power_watts{gpu="0"' in page
        assert 'mlopsd_gpu_power_watts{gpu="1"' not in page


def test_each_card_has_a_row_on_the_status_page(host: Path, tmp_path: Path) -> None:
    with Running(tmp_path, PATIENT) as daemon:
        daemon.until("/health/gpu", lambda reported: reported["status"] == "healthy")
        page = daemon.get("/", Accept="text/html").body.decode()
        rows = re.findall(r'<tr role="row" data-key="(gpu \d)">(.*?)</tr>', page, re.DOTALL)
        assert [name for name, _ in rows] == ["gpu 0", "gpu 1"]
        for _, row in rows:
            assert "NVIDIA H100 80GB HBM3" in row
            assert re.search(r">[\d.]+ %<", row), "busy"
            assert re.search(r">[\d.]+ [GM]B <small>of [\d.]+ GB<", row), "memory"
            assert re.search(r">\d+ °C <small>of \d+ °C<", row), "temperature"
            assert re.search(r">[\d.]+ W <small>of \d+ W<", row), "power"
            assert row.count('class="spark"') == 4


def test_a_driver_that_hangs_costs_one_reading_and_not_the_daemon(host: Path, tmp_path: Path) -> None:
    with Running(tmp_path, TABLE.format(2)) as daemon:
        daemon.until("/health/gpu", lambda reported: reported["status"] == "healthy")
        build.steer(host, scenario("hang nvmlDeviceGetPowerUsage deaf gpu 1"))
        first = daemon.until("/health/gpu", lambda reported: reported["status"] == "unknown")
        call = "the NVIDIA driver has not answered nvmlDeviceGetPowerUsage of gpu 1 (NVIDIA H100"
        assert first["summary"].startswith(call)
        assert daemon.get("/health/").json["advice"] == "watch", "it may only be slow"
        daemon.until("/health/", lambda reported: reported["advice"] == "reboot")
        lasting = daemon.get("/health/gpu").json["summary"]
        assert re.match(rf"{re.escape(call)}.*\) for [\d.]+ s, so it hangs: see dmesg", lasting)
        assert daemon.get("/livez").status == 200
        daemon.stop()  # while the driver still hangs
        assert daemon.process.returncode == 0


def test_a_driver_that_answers_again_is_healthy_and_hangs_for_the_first_time_next(
    host: Path, tmp_path: Path
) -> None:
    with Running(tmp_path, TABLE.format(2)) as daemon:
        daemon.until("/health/gpu", lambda reported: reported["status"] == "healthy")
        for _ in range(2):
            build.steer(host, scenario("hang nvmlDeviceGetFieldValues"))
            first = daemon.until("/health/gpu", lambda reported: reported["status"] == "unknown")
            assert "has not answered nvmlDeviceGetFieldValues of gpu 0" in first["summary"]
            assert [one["advice"] for one in first["findings"]] == ["watch"]
            build.steer(host, scenario())
            daemon.until("/health/gpu", lambda reported: reported["status"] == "healthy")


def test_an_xid_of_before_a_restart_of_the_daemon_is_still_reported(host: Path, tmp_path: Path) -> None:
    with Running(tmp_path, PATIENT) as daemon:
        daemon.until("/health/gpu", lambda reported: reported["status"] == "healthy")
        build.steer(host, scenario("xid 79 gpu 1"))
        daemon.until("/health/gpu", lambda reported: reported["status"] == "unhealthy")
        daemon.wait_for(lambda line: line["event"] == "XID" and line["xid"] == 79)
        daemon.stop()
    build.steer(host, scenario())
    with Running(tmp_path, PATIENT) as daemon:
        reported = daemon.until("/health/gpu", lambda reported: reported["status"] not in ("unknown",))
        assert reported["status"] == "unhealthy"
        assert "XID 79" in reported["summary"]


@pytest.mark.parametrize(
    ("trouble", "output", "advice"),
    [
        ("xid 79 gpu 1", "had XID 79 (the GPU has fallen off the bus)", "reboot"),
        ("remapped.failure 1 gpu 1", "remapping failed", "replace_hardware"),
        ("ecc.uncorrected.volatile.total 3 gpu 1", "had 3 uncorrected ECC errors", "reset_gpu"),
        ("error nvmlDeviceGet* RESET_REQUIRED gpu 1", "must be reset before it works again", "reset_gpu"),
    ],
)
def test_what_lasts_is_reported_with_its_advice_as_long_as_the_driver_hangs(
    host: Path, tmp_path: Path, trouble: str, output: str, advice: str
) -> None:
    with Running(tmp_path, TABLE.format(2)) as daemon:
        daemon.until("/health/gpu", lambda reported: reported["status"] == "healthy")
        build.steer(host, scenario(trouble))
        daemon.until(
            "/health/gpu", lambda reported: reported["status"] == "unhealthy" and reported["findings"]
        )

        def has_hung_for_long(reported: dict[str, Any]) -> bool:
            assert reported["status"] == "unhealthy"
            verdict = daemon.get("/health/").json
            assert (verdict["status"], verdict["advice"]) == ("unhealthy", advice)
            assert "recovering" not in verdict["summary"]
            return reported.get("raw_status") == "unknown" and reported["raw_count"] >= 4

        build.steer(host, scenario(trouble, "hang nvmlDeviceGetPowerUsage deaf"))
        reported = daemon.until("/health/gpu", has_hung_for_long, 60)
        assert "; before that: gpu 1 (" in reported["summary"]
        assert output in reported["summary"]
        page = daemon.get("/metrics").body.decode()
        (row,) = re.findall(r'^mlopsd_probe_finding{.*subject="gpu 1".*} 1$', page, re.MULTILINE)
        assert f'status="unhealthy",advice="{advice}"' in row
        shown = mlopsd("status", env={"MLOPSD_CONFIG": str(daemon.config)}).stdout
        assert f"advice: {advice}" in shown.splitlines()[0]
        assert output in " ".join(shown.split())
        build.steer(host, scenario("energy 5 gpu 1"))  # the card was reset, and the driver answers
        daemon.until("/health/gpu", lambda reported: reported["status"] == "healthy")
        assert daemon.get("/health/").json["advice"] == "none"
