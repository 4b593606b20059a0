"""A real Prometheus with the shipped rules, their durations shortened, over targets of a test."""

import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.alerts.rules import shortened
from tests.metrics.test_prometheus import Database
from tests.running import GIVE_UP, free_port

CONFIGURATION = """
global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 500ms}}
rule_files: [mlopsd.rules.yml]
scrape_configs:
- job_name: mlopsd
  file_sd_configs: [{{files: [hosts.json], refresh_interval: 1s}}]
{more}
"""
FIRING_SECONDS = GIVE_UP  # it is seen within three
Alert = dict[str, Any]


class Monitoring(Database):
    """Asks a Prometheus for series and for alerts; *folder* has the list of its targets."""

    def __init__(self, port: int, folder: Path) -> None:
        super().__init__(port)
        self.uri = f"http://127.0.0.1:{port}"
        self._folder = folder

    def watch(self, *targets: str) -> None:
        """Scrape *targets*, and no others, from now on."""
        draft = self._folder / "draft"
        draft.write_text(json.dumps([{"targets": targets}]), "utf-8")
        draft.replace(self._folder / "hosts.json")

    def alerts(self) -> list[Alert]:
        """Every alert that is pending or fires."""
        try:
            with urllib.request.urlopen(f"{self.uri}/api/v1/alerts", timeout=5) as answer:
                reported: list[Alert] = json.load(answer)["data"]["alerts"]
                return reported
        except OSError:
            return []

    def targets(self) -> list[dict[str, Any]]:
        """Return every target that is scraped: its labels, and those that it was discovered with."""
        try:
            with urllib.request.urlopen(f"{self.uri}/api/v1/targets?state=active", timeout=5) as answer:
                found: list[dict[str, Any]] = json.load(answer)["data"]["activeTargets"]
                return found
        except OSError:
            return []

    def firing(self, **labels: str) -> list[Alert]:
        """The alerts that fire and have *labels*."""
        return [one for one in self.alerts() if one["state"] == "firing" and _has(one, labels)]

    def until_firing(self, name: str, **labels: str) -> Alert:
        """The first alert *name* with *labels* that fires."""
        found: list[Alert] = self.until(lambda: self.firing(alertname=name, **labels), name)
        return found[0]

    def until(self, wanted: Callable[[], Any], what: str) -> Any:
        """What *wanted* gives as soon as that is something.

        Raises:
            AssertionError: it never was.
        """
        deadline = time.monotonic() + FIRING_SECONDS
        while not (found := wanted()):
            assert time.monotonic() < deadline, f"{what}: {self.alerts()}"
            time.sleep(0.1)
        return found


def _has(alert: Alert, labels: dict[str, str]) -> bool:
    reported: dict[str, str] = alert["labels"]
    return labels.items() <= reported.items()


@contextmanager
def monitoring(folder: Path, more: str = "", targets: Sequence[str] = ()) -> Iterator[Monitoring]:
    """A Prometheus in *folder*, with *more* in its configuration; ended when the block ends."""
    with configured(folder, CONFIGURATION.format(more=more)) as database:
        database.watch(*targets)
        yield database


@contextmanager
def configured(folder: Path, text: str) -> Iterator[Monitoring]:
    """Run a Prometheus with the configuration *text* and the shortened rules beside it in *folder*."""
    folder.mkdir(exist_ok=True)
    (folder / "mlopsd.rules.yml").write_text(shortened(), "utf-8")
    config = folder / "prometheus.yml"
    config.write_text(text, "utf-8")
    port = free_port()
    database = Monitoring(port, folder)
    command = [
        shutil.which("prometheus") or "prometheus",
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stderr=log)
    try:
        yield database
    finally:
        process.terminate()
        process.wait(GIVE_UP)
