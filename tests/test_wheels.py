"""The three probes of the guide as wheels, installed, upgraded and removed under a running daemon."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.running import Running
from tests.venvs import Venv, wheel

SOURCE = Path(__file__).parent / "packages" / "mlopsd-probe-neighbours"
NAME = "mlopsd-probe-neighbours"
NAMES = ("registry_port", "nightly", "models")
RENAMED = {"free_bytes": "available_bytes", "age_seconds": "idle_seconds", "refused_total": "rejected_total"}
TABLES = """
[probes.registry_port]
use = "tcp_port"
port = 9
[probes.nightly]
use = "heartbeat_file"
path = "{beat}"
[probes.models]
use = "network_mount"
path = "/proc"
"""


def version(number: str, folder: Path) -> Path:
    """The wheel of the guide's package as version *number*, whose metrics have other names from 2.0 on."""
    source = folder / f"source-{number}"
    shutil.copytree(SOURCE, source)
    project = source / "pyproject.toml"
    project.write_text(project.read_text("utf-8").replace('"1.0"', f'"{number}"'), "utf-8")
    for module in source.glob("mlopsd_probe_neighbours/*.py"):
        code = module.read_text("utf-8")
        for old, new in RENAMED.items() if number != "1.0" else ():
            code = code.replace(f'"{old}"', f'"{new}"')
        module.write_text(code, "utf-8")
    return wheel(source, folder / f"dist-{number}")


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("wheels")
    return version("1.0", folder), version("2.0", folder)


@pytest.fixture
def venv(tmp_path: Path) -> Venv:
    return Venv(tmp_path / "venv")


@pytest.fixture
def text(tmp_path: Path) -> str:
    beat = tmp_path / "beat"
    beat.touch()
    return TABLES.format(beat=beat)


def reload(daemon: Running, text: str | None = None) -> Any:
    if text is not None:
        daemon.config.write_text(daemon.framed(text), "utf-8")
    return daemon.ask("POST", "/reload", local=True).json


def shown(daemon: Running) -> tuple[set[str], set[str]]:
    """The versions of the package that ``/info`` shows, and the metrics of it that a scrape shows."""
    for name in NAMES:
        daemon.until(f"/health/{name}", lambda reading: "checked_at" in reading)
    probes = daemon.get("/info").json["probes"]
    page = daemon.get("/metrics").body.decode()
    metrics = {name for name in (*RENAMED, *RENAMED.values()) if f"_{name}{{" in page}
    return {probe["distribution"] for probe in probes}, metrics


def test_a_wheel_that_is_installed_under_a_daemon_is_seen_at_a_reload(
    venv: Venv, wheels: tuple[Path, Path], text: str, tmp_path: Path
) -> None:
    with Running(tmp_path, "", through=venv.through) as daemon:
        missing = reload(daemon, text)["detail"]
        assert missing.count("no installed package provides it") == 3
        venv.install(wheels[0])
        assert len(reload(daemon)["changes"]) == 3
        assert shown(daemon) == ({f"{NAME} 1.0"}, set(RENAMED))


def test_the_tables_go_before_the_package(
    venv: Venv, wheels: tuple[Path, Path], text: str, tmp_path: Path
) -> None:
    venv.install(wheels[0])
    with Running(tmp_path, text, through=venv.through) as daemon:
        assert len(reload(daemon, "")["changes"]) == 3
        venv.uninstall(NAME)
        assert reload(daemon)["changes"] == []
        assert daemon.get("/health/nightly").status == 404
        assert "_age_seconds" not in daemon.get("/metrics").body.decode()
    checked = venv.run("mlopsd", "config", "check", "--config", tmp_path / "config.toml")
    assert checked.returncode == 0, checked.stderr


def test_a_start_without_the_package_names_each_table(
    venv: Venv, wheels: tuple[Path, Path], text: str, tmp_path: Path
) -> None:
    venv.install(wheels[0])
    venv.uninstall(NAME)
    (tmp_path / "config.toml").write_text(text, "utf-8")
    started = venv.run("mlopsd", "run", "--config", tmp_path / "config.toml")
    assert started.returncode == 1
    lines = started.stderr.splitlines()
    assert [name for name in NAMES if any(f"probes.{name}: cannot load probe" in line for line in lines)] == [
        *NAMES
    ]
    assert len(lines) == 3


def test_an_upgraded_wheel_runs_after_a_restart_and_never_seems_to_before(
    venv: Venv, wheels: tuple[Path, Path], text: str, tmp_path: Path
) -> None:
    venv.install(wheels[0])
    with Running(tmp_path, text, through=venv.through) as daemon:
        venv.install(wheels[1])
        upgraded = f"{NAME} 2.0 is installed, 1.0 is running; restart mlopsd"
        assert reload(daemon)["changes"] == [f"probe {name}: {upgraded}" for name in NAMES]
        assert shown(daemon) == ({f"{NAME} 1.0"}, set(RENAMED))
    with Running(tmp_path, text, through=venv.through) as daemon:
        assert reload(daemon)["changes"] == []
        assert shown(daemon) == ({f"{NAME} 2.0"}, set(RENAMED.values()))


def test_a_wheel_that_is_removed_under_its_tables_is_a_clear_line(
    venv: Venv, wheels: tuple[Path, Path], text: str, tmp_path: Path
) -> None:
    venv.install(wheels[0])
    with Running(tmp_path, text, through=venv.through) as daemon:
        venv.uninstall(NAME)
        gone = f"{NAME} is no longer installed, 1.0 is running; install it again"
        assert reload(daemon)["changes"] == [f"probe {name}: {gone}" for name in NAMES]
        assert shown(daemon) == ({f"{NAME} 1.0"}, set(RENAMED))
