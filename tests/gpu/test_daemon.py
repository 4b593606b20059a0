"""A real daemon over the fake driver, asked over HTTP as an operator and Prometheus ask it."""

from pathlib import Path

import pytest

from mlopsd_probes.gpu.fake import build
from tests.gpu.driving import library, scenario
from tests.running import AT_ONCE, Running

TABLE = '[probes.gpu]\ninterval = 0.5\ntimeout = {}\nsysfs_path = "/nonexistent"\n'
PATIENT = TABLE.format(60)


@pytest.fixture
def host(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a scenario of two healthy cards, for every process that is started from here."""
    file = tmp_path / "host.scenario"
    file.write_text(scenario())
    monkeypatch.setenv("LD_LIBRARY_PATH", str(library(tmp_path_factory)))
    monkeypatch.setenv("FAKE_NVML_SCENARIO", str(file))
    return file


def test_a_lost_gpu_is_named_over_http_and_its_series_are_gone(host: Path, tmp_path: Path) -> None:
    with Running(tmp_path, PATIENT) as daemon:
        assert daemon.until("/health/gpu", lambda told: told["status"] == "healthy")["facts"]["gpus"]
        assert daemon.get("/health/").status == 200
        assert 'mlopsd_gpu_power_watts{gpu="1"' in daemon.get("/metrics").body.decode().replace(
            'probe="gpu",', ""
        )
        build.steer(host, scenario("lost gpu 1"))
        told = daemon.until("/health/gpu", lambda told: told["status"] == "unhealthy")
        assert "gpu 1 (NVIDIA H100 80GB HBM3, 0000:02:00.0) is lost" in told["summary"]
        assert daemon.get("/health/").status == 503
        assert daemon.get("/health/").json["advice"] == "reboot"
        page = daemon.get("/metrics").body.decode().replace('probe="gpu",', "")
        assert 'mlopsd_gpu_power_watts{gpu="0"' in page
        assert 'mlopsd_gpu_power_watts{gpu="1"' not in page


def test_a_driver_that_hangs_costs_one_reading_and_not_the_daemon(host: Path, tmp_path: Path) -> None:
    with Running(tmp_path, TABLE.format(2)) as daemon:
        daemon.until("/health/gpu", lambda told: told["status"] == "healthy")
        daemon.events("the probe cannot tell")  # what was so while it started
        build.steer(host, scenario("hang nvmlDeviceGetPowerUsage deaf"))
        daemon.wait_for(lambda line: line.get("reason") == "no answer within 2 s")
        daemon.until("/health/gpu", lambda told: told["status"] == "unknown")
        assert daemon.get("/livez").status == 200
        assert daemon.stop() < AT_ONCE
        assert daemon.process.returncode == 0


def test_an_xid_of_before_a_restart_of_the_daemon_is_still_told(host: Path, tmp_path: Path) -> None:
    with Running(tmp_path, PATIENT) as daemon:
        daemon.until("/health/gpu", lambda told: told["status"] == "healthy")
        build.steer(host, scenario("xid 79 gpu 1"))
        daemon.until("/health/gpu", lambda told: told["status"] == "unhealthy")
        daemon.wait_for(lambda line: line["event"] == "XID" and line["xid"] == "79")
        daemon.stop()
    build.steer(host, scenario())
    with Running(tmp_path, PATIENT) as daemon:
        told = daemon.until("/health/gpu", lambda told: told["status"] not in ("unknown",))
        assert told["status"] == "unhealthy"
        assert "XID 79" in told["summary"]
