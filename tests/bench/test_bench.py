"""The benchmark measures what it says, does without a peer that is not there, and leaves nothing behind."""

import gzip
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench import asking, door, fleet, footprint, sides, workload
from bench.effort import QUICK
from bench.peers.nginx import Nginx, place
from bench.peers.service import Service
from bench.server import DaemonServer, Missing
from bench.web import AS_PROMETHEUS, WebConnection, wait_for_answer
from mlopsd.process.procfs import descendants
from tests.running import GIVE_UP

ROOT = Path(__file__).parents[2]


@pytest.mark.needs("prometheus")
@pytest.mark.timeout(120)
def test_every_series_of_a_small_fleet_is_in_prometheus(tmp_path: Path) -> None:
    scraped = fleet.scrape_daemons(tmp_path, 5, 5)
    assert scraped.whole == scraped.targets == 5
    assert scraped.good > 0
    assert scraped.samples > 90
    assert scraped.cpu >= scraped.own > 0
    assert scraped.rules[1] == 0


@pytest.mark.needs("prometheus")
def test_a_rule_file_is_one_that_holds_rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "alerts.yml").write_text("# what wakes\ngroups:\n  - name: a\n    rules: []\n")
    (tmp_path / "scrape.yml").write_text("scrape_configs: []\n")
    monkeypatch.setattr(fleet, "RULES", tmp_path)
    assert fleet.rule_files() == [tmp_path / "alerts.yml"]


@pytest.mark.needs("nginx")
def test_nginx_serves_the_very_bytes_also_packed(tmp_path: Path) -> None:
    page = b"up 1\n" * 1000
    packed = gzip.compress(page, 1)
    with Nginx(tmp_path / "nginx", {"/metrics": page, "/health/": b"{}"}, {"/metrics": packed}) as nginx:
        wait_for_answer(nginx.port, "/metrics")
        connection = WebConnection(nginx.port)
        assert connection.get("/metrics") == (200, page)
        assert connection.get("/metrics", AS_PROMETHEUS) == (200, packed)
        assert connection.get(place("/health/")) == (200, b"{}")
        connection.close()


def test_fastapis_service_does_the_same_job_and_its_series_change(tmp_path: Path) -> None:
    with Service(tmp_path / "service", 100) as service:
        wait_for_answer(service.port, "/health/")
        connection = WebConnection(service.port)
        before = connection.get("/metrics")[1]
        assert b'"series":"healthy"' in connection.get("/health/")[1]
        assert b'"readings":{"system":' in connection.get("/health/detailed")[1]
        after = connection.get("/metrics")[1]
        connection.close()
    assert sum(line.startswith(b"peer_quantity_") for line in before.splitlines()) == 100
    assert b'peer_http_requests_total{method="GET",route="/health/detailed",status="200"} 1.0' in after


def test_the_daemon_shows_as_many_series_as_configured(tmp_path: Path) -> None:
    environment = door.lay_out(tmp_path)
    with DaemonServer(tmp_path / "daemon", sides.tables_of(400), environment) as daemon:
        daemon.wait_until_started()
        connection = WebConnection(daemon.port)
        lines = connection.get("/metrics")[1].splitlines()
        connection.close()
    assert sum(line.startswith(b"mlopsd_bench_series_quantity_") for line in lines) == 400 - 180


def test_a_counter_never_falls_and_every_scrape_differs() -> None:
    for at in range(16):
        assert workload.value(at, 1) < workload.value(at, 2) < workload.value(at, 3)


def test_without_what_asks_there_is_one_line_with_the_fix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(Missing, match="no wrk; install it with: apt install wrk"):
        list(asking.run(QUICK, tmp_path))


def test_without_one_peer_the_others_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    kept = footprint.Kept()
    (output,) = footprint.look_at_peers(kept, tmp_path, 100, 1)
    assert output == (
        "nothing beside node_exporter: no node_exporter; "
        "install it with: apt install prometheus-node-exporter"
    )
    assert list(kept.sides) == [sides.FASTAPI]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_benchmark_that_has_to_end_leaves_no_process_and_no_file(
    tmp_path: Path, number: signal.Signals
) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-m", "bench", "--quick", "rest", "scrape"]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL) as bench:
        until = time.monotonic() + GIVE_UP
        while not (started := set(descendants(bench.pid))):
            assert time.monotonic() < until
            time.sleep(0.05)
        bench.send_signal(number)
        assert bench.wait(GIVE_UP) == 128 + number
    assert not list(tmp_path.iterdir())
    until = time.monotonic() + GIVE_UP
    while left := [pid for pid in started if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < until, left
        time.sleep(0.05)


def test_a_name_that_is_no_benchmark_is_refused_with_those_there_are() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench", "htpp"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "no benchmark is called htpp; there are start, http, memory" in done.stderr
