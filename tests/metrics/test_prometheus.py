"""A real Prometheus scrapes the real daemon, on its port and on the metrics' own."""

import json
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mlopsd.config import plugins
from tests.running import CALM_SYSTEM, GIVE_UP, Running, free_port

CONFIGURATION = """
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
  - {{job_name: daemon, static_configs: [{{targets: ['127.0.0.1:{api}']}}]}}
  - {{job_name: metrics, static_configs: [{{targets: ['127.0.0.1:{metrics}']}}]}}
"""


@contextmanager
def prometheus(folder: Path, api: int, metrics: int) -> Iterator["Database"]:
    """A Prometheus that scrapes both ports, ended when the block ends."""
    config = folder / "prometheus.yml"
    config.write_text(CONFIGURATION.format(api=api, metrics=metrics), "utf-8")
    port = free_port()
    process = subprocess.Popen(
        [
            shutil.which("prometheus") or "prometheus",
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        stderr=subprocess.DEVNULL,
    )
    try:
        yield Database(port)
    finally:
        process.terminate()
        process.wait(GIVE_UP)


class Database:
    """Asks a Prometheus."""

    def __init__(self, port: int) -> None:
        self._port = port

    def ask(self, query: str) -> list[dict[str, Any]]:
        """The series that *query* gives now; none while it is still starting."""
        text = urllib.parse.urlencode({"query": query})
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self._port}/api/v1/query?{text}", timeout=5
            ) as found:
                series: list[dict[str, Any]] = json.load(found)["data"]["result"]
                return series
        except OSError:
            return []

    def wait(self, query: str, many: int = 1, seconds: float = GIVE_UP) -> list[dict[str, Any]]:
        """At least *many* series for *query*.

        Raises:
            AssertionError: they did not come.
        """
        deadline = time.monotonic() + seconds
        while len(series := self.ask(query)) < many:
            assert time.monotonic() < deadline, f"{query}: {series}"
            time.sleep(0.1)
        return series


@pytest.mark.needs("prometheus")
def test_a_real_prometheus_scrapes_the_real_daemon(tmp_path: Path) -> None:
    metrics = free_port()
    with (
        Running(tmp_path, f"[metrics]\nport = {metrics}\n{CALM_SYSTEM}") as daemon,
        prometheus(tmp_path, daemon.port, metrics) as database,
    ):
        database.wait("up == 1", many=2)
        states = {
            series["metric"]["status"]: series["value"][1]
            for series in database.wait('mlopsd_health_status{job="daemon"}', many=4)
        }
        reported = daemon.get("/health/").json["status"]
        assert states == {
            status: "1" if status == reported else "0"
            for status in ("healthy", "degraded", "unknown", "unhealthy")
        }
        total = database.wait('mlopsd_system_memory_total_bytes{job="metrics"}')
        assert float(total[0]["value"][1]) == daemon.get("/health/system").json["facts"]["memory_total_bytes"]
        database.wait('mlopsd_http_requests_total{route="/metrics",status="200"} > 2')
        database.wait('mlopsd_event_loop_lag_seconds_bucket{le="+Inf",job="daemon"} > 0')
        known = database.wait('group by (__name__) ({job="daemon",__name__=~"mlopsd_system_.+"})', many=21)
        seen = {series["metric"]["__name__"].removeprefix("mlopsd_system_") for series in known}
        declared = {metric.name for metric in plugins.choose(plugins.find(), "system").load().metrics}
        assert seen <= declared
        assert len(seen) > 20
