"""An upgrade of a third-party package under a running daemon: nothing claims more than what runs."""

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.cli.command import mlopsd
from tests.running import GIVE_UP, Running

PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "mlopsd-probe-license"
version = "{version}"

[project.entry-points."mlopsd.probes"]
seats = "mlopsd_probe_license.seats:Seats"
seats_apart = "mlopsd_probe_license.seats:SeatsApart"
late = "mlopsd_probe_license.late:Late"
"""
SEATS = """
from mlopsd.probe import Finding, Metric, Probe, Reading, Schedule, Status

FREE = Metric("{metric}", "Free seats.")


class Seats(Probe):
    \"\"\"Free seats of a licence.\"\"\"

    metrics = (FREE,)
    schedule = Schedule(interval=0.2)

    def check(self) -> Reading:
        return Reading([Finding("seats", Status.HEALTHY, "version {version} counts")], [FREE.sample(7)])


class SeatsApart(Seats):
    \"\"\"The same in a process.\"\"\"

    schedule = Schedule(interval=0.2, isolation="process")
"""
TABLES = '[probes.seats]\n[probes.apart]\nuse = "seats_apart"\n'
UPGRADED = "mlopsd-probe-license 3.0 is installed, 2.0 is running; restart mlopsd"


class Package:
    """A third-party package below *folder*, and the folder *site* into which pip installs it."""

    def __init__(self, folder: Path) -> None:
        self.source, self.site = folder / "source", folder / "site"
        self.environment = {"PYTHONPATH": str(self.site)}

    def write(self, version: str, metric: str) -> None:
        code = self.source / "mlopsd_probe_license"
        code.mkdir(parents=True, exist_ok=True)
        (self.source / "pyproject.toml").write_text(PROJECT.format(version=version), "utf-8")
        (code / "__init__.py").write_text("", "utf-8")
        (code / "seats.py").write_text(SEATS.format(version=version, metric=metric), "utf-8")
        late = SEATS.format(version=version, metric="late").replace("Seats", "Late")
        (code / "late.py").write_text(late, "utf-8")

    def install(self, version: str, metric: str) -> None:
        """Install this version as ``pip install --upgrade`` does."""
        self.write(version, metric)
        options = [
            "--quiet",
            "--no-deps",
            "--no-build-isolation",
            "--no-index",
            "--disable-pip-version-check",
        ]
        target = ["--upgrade", "--target", str(self.site), str(self.source)]
        subprocess.run(
            [sys.executable, "-m", "pip", "install", *options, *target], check=True, timeout=GIVE_UP
        )
        self._only(version)

    def link(self, version: str, metric: str) -> None:
        """Install this version as ``pip install --editable`` does: metadata, and a way to the source."""
        self.write(version, metric)
        about = self.site / f"mlopsd_probe_license-{version}.dist-info"
        about.mkdir(parents=True, exist_ok=True)
        (about / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: mlopsd-probe-license\nVersion: {version}\n", "ascii"
        )
        points = PROJECT.partition('"mlopsd.probes"]\n')[2].replace('"', "")
        (about / "entry_points.txt").write_text(f"[mlopsd.probes]\n{points}", "ascii")
        self.environment = {"PYTHONPATH": os.pathsep.join([str(self.site), str(self.source)])}

    def unlink(self) -> None:
        """Remove it as ``pip uninstall`` does after ``pip install --editable``: the source stays."""
        self._only(None)

    def forget_entry_points(self) -> None:
        """Install it again without its entry points."""
        for points in self.site.glob("*.dist-info/entry_points.txt"):
            points.write_text("", "ascii")

    def remove(self) -> None:
        """Remove it as ``pip uninstall`` does."""
        self._only(None)
        for file in (self.site / "mlopsd_probe_license").rglob("*.py*"):
            file.unlink()

    def _only(self, version: str | None) -> None:
        """Remove the metadata of other versions, which ``pip install --target`` leaves."""
        for about in self.site.glob("*.dist-info"):
            if version is None or f"-{version}." not in about.name:
                for file in about.iterdir():
                    file.unlink() if file.is_file() else None
                subprocess.run(["rm", "-r", str(about)], check=True)


@pytest.fixture
def package(tmp_path: Path) -> Package:
    return Package(tmp_path / "package")


def is_warning(text: str, line: dict[str, Any]) -> bool:
    return line.get("warning") == text


def refused(daemon: Running) -> dict[str, Any]:
    """The reading of the process that refused to run other code."""
    found: dict[str, Any] = daemon.until("/health/apart", lambda told: "code_version" in str(told))
    return found


def kill_child_of(daemon: Running) -> None:
    (child,) = psutil.Process(daemon.pid).children()
    child.send_signal(signal.SIGKILL)


def test_an_upgraded_package_keeps_running_as_it_was_and_everything_says_so(
    package: Package, tmp_path: Path
) -> None:
    package.install("2.0", "seats_free")
    with Running(tmp_path, TABLES, environment=package.environment) as daemon:
        package.install("3.0", "free_seats")
        answer = daemon.ask("POST", "/reload", local=True)
        lines = [f"probe {name}: {UPGRADED}" for name in ("seats", "apart")]
        assert answer.json["changes"] == lines
        for line in lines:
            daemon.wait_for(partial(is_warning, line))
        status = mlopsd("status", env={"MLOPSD_SOCKET": str(daemon.socket)})
        assert f"  {lines[0]}" in status.stdout.splitlines()
        for path in ("/", "/info", "/metrics"):
            body = daemon.get(path).body.decode()
            assert "license 3.0" not in body.replace(UPGRADED, "")
            assert "free_seats" not in body
        assert "mlopsd_seats_seats_free" in daemon.get("/metrics").body.decode()
        assert daemon.get("/health/apart").json["status"] == "healthy", "its process still runs 2.0"
        kill_child_of(daemon)
        stopped = refused(daemon)
        assert [
            (finding["name"], finding["advice"], finding["summary"]) for finding in stopped["findings"]
        ] == [("code_version", "restart_app", UPGRADED)]
        assert not daemon.events("sample rejected")
        assert daemon.get("/health/seats").json["summary"] != stopped["summary"]


def test_a_new_table_does_not_mix_two_versions_in_one_daemon(package: Package, tmp_path: Path) -> None:
    package.install("2.0", "seats_free")
    with Running(tmp_path, "[probes.seats]\n", environment=package.environment) as daemon:
        package.install("3.0", "free_seats")
        daemon.config.write_text(daemon.framed("[probes.seats]\n[probes.late]\n"), "utf-8")
        answer = daemon.ask("POST", "/reload", local=True)
        assert answer.status == 409
        (mistake,) = answer.json["mistakes"]
        assert mistake == f"{daemon.config}: probes.late: cannot load probe 'late': {UPGRADED}"
        assert list(daemon.get("/health/").json["probes"]) == ["seats"]


def test_a_downgraded_and_a_removed_package_are_one_line_each(package: Package, tmp_path: Path) -> None:
    package.install("2.0", "seats_free")
    with Running(tmp_path, TABLES, environment=package.environment) as daemon:
        package.install("1.0", "seats_left")
        changes = daemon.ask("POST", "/reload", local=True).json["changes"]
        assert changes[0] == (
            "probe seats: mlopsd-probe-license 1.0 is installed, 2.0 is running; restart mlopsd"
        )
        package.remove()
        gone = "mlopsd-probe-license is no longer installed, 2.0 is running; install it again"
        assert daemon.ask("POST", "/reload", local=True).json["changes"][0] == f"probe seats: {gone}"
        kill_child_of(daemon)
        stopped = refused(daemon)
        assert (stopped["summary"], stopped["findings"][0]["advice"]) == (gone, "fix_config")
        package.install("2.0", "seats_free")
        daemon.until("/health/apart", lambda told: told["status"] == "healthy")
        assert daemon.ask("POST", "/reload", local=True).json["changes"] == []
        assert "Traceback" not in str(daemon.log)


def test_changed_code_of_the_same_version_is_told_and_does_not_run(package: Package, tmp_path: Path) -> None:
    package.link("2.0", "seats_free")
    with Running(tmp_path, TABLES, environment=package.environment) as daemon:
        assert daemon.ask("POST", "/reload", local=True).json["changes"] == []
        package.write("2.0", "free_seats")
        changed = "the code of mlopsd-probe-license 2.0 has changed on disk since mlopsd loaded it (seats.py)"
        answer = daemon.ask("POST", "/reload", local=True).json["changes"]
        assert answer[0] == f"probe seats: {changed}; restart mlopsd"
        kill_child_of(daemon)
        stopped = refused(daemon)
        assert stopped["summary"] == f"{changed}; restart mlopsd"
        package.write("2.0", "seats_free")
        daemon.until("/health/apart", lambda told: told["status"] == "healthy")


def test_a_removed_editable_package_keeps_running_although_its_source_is_there(
    package: Package, tmp_path: Path
) -> None:
    package.link("2.0", "seats_free")
    with Running(tmp_path, TABLES, environment=package.environment) as daemon:
        package.unlink()
        gone = "mlopsd-probe-license is no longer installed, 2.0 is running; install it again"
        answer = daemon.ask("POST", "/reload", local=True).json
        assert answer["changes"] == [f"probe {name}: {gone}" for name in ("seats", "apart")]
        kill_child_of(daemon)
        assert refused(daemon)["summary"] == gone
        package.link("2.0", "seats_free")
        daemon.until("/health/apart", lambda told: told["status"] == "healthy")


def test_an_entry_point_that_is_gone_is_named_with_its_package(package: Package, tmp_path: Path) -> None:
    package.link("2.0", "seats_free")
    with Running(tmp_path, "[probes.seats]\n", environment=package.environment) as daemon:
        package.forget_entry_points()
        (mistake,) = daemon.ask("POST", "/reload", local=True).json["mistakes"]
        assert mistake == (
            f"{daemon.config}: probes.seats: cannot load probe 'seats': mlopsd-probe-license 2.0 has no "
            "entry point 'seats' any more; remove its table, or install it with that entry point"
        )
        assert daemon.get("/health/seats").json["status"] == "healthy"
