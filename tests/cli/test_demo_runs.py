"""``mlopsd demo`` with its daemon, from an empty folder, and every command that it prints."""

import json
import socket
from pathlib import Path

import pytest

from mlopsd.cli.demo.folder import DemoFolder
from mlopsd.cli.demo.gpus import SCENARIOS
from mlopsd_probes.fake_nvml import build
from mlopsd_probes.fake_nvml.__main__ import prepared
from tests.cli.command import mlopsd
from tests.cli.demonstration import calm, demo, is_healthy, reading, serves, tried
from tests.running import free_port

pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose socket has a path that is short enough."""
    return tmp_path_factory.mktemp("d") / "my demo"


@pytest.mark.needs("cc", "curl")
def test_it_all_works_as_printed(short: Path) -> None:
    port = free_port()
    calm(short)
    with demo(short, port, "--fake-gpus", "t4") as running:
        reading(port, "gpu", is_healthy)
        reading(port, "model", serves("1"))
        health, at_night, prediction, retrain, break_a_gpu, ask_it = running.commands
        assert tried(health).startswith("HTTP/1.1 200 OK\n")
        assert "(@champion) answers" in tried(at_night)
        (first,) = json.loads(tried(prediction))["predictions"]
        assert 25 < first < 346
        assert "--folder" in retrain, "it is not where the demo is by default"
        printed = tried(retrain)
        assert "version 2 of diabetes-progression" in printed
        reading(port, "model", serves("2"))
        (second,) = json.loads(tried(prediction))["predictions"]
        assert second != first
        status, reload = [
            line.strip() for line in printed.splitlines() if line.startswith("  MLOPSD_CONFIG=")
        ]
        assert "model" in tried(status)
        assert tried(reload)
        tried(break_a_gpu)
        reading(port, "gpu", lambda answer: answer["status"] == "unhealthy")
        assert "gpu 0 (Tesla T4, 0000:00:08.0) is lost" in json.loads(tried(ask_it))["summary"]
        assert running.stop() == 0


def test_run_again_it_starts_from_what_is_there_with_what_was_changed_and_only_once(short: Path) -> None:
    port = free_port()
    with demo(short, port) as first:
        reading(port, "model", serves("1"))
        for said in ("wrote", "starting MLflow", "training"):
            assert any(said in line for line in first.lines), said
        assert first.stop() == 0
    calm(short)
    with demo(short, port) as second:
        for said in ("wrote", "starting MLflow", "training"):
            assert not any(said in line for line in second.lines), said
        reading(port, "model", serves("1"))
        another = mlopsd("demo", "--folder", short, "--port", str(free_port()))
        assert (another.returncode, another.stdout) == (1, "")
        assert f"another mlopsd (pid {second.process.pid}) uses {short}/state" in another.stderr
        assert second.stop() == 0
    assert "load_degraded" in (short / "config.toml").read_text()


def test_pretended_gpus_of_a_kind_that_there_is_not_are_one_line(short: Path) -> None:
    done = mlopsd("demo", "--folder", short, "--fake-gpus", "voodoo")
    assert (done.returncode, done.stdout) == (1, "")
    known = f"there are {', '.join(SCENARIOS)}; or name a file"
    assert done.stderr == f"mlopsd: cannot find the scenario 'voodoo': {known}\n"
    assert not (short / "mlflow.db").exists(), "trained for nothing"


def test_without_a_compiler_pretended_gpus_are_one_line(short: Path) -> None:
    done = mlopsd("demo", "--folder", short, "--fake-gpus", "t4", env={"PATH": "/nonexistent"})
    assert (done.returncode, done.stdout) == (1, "")
    missing = "cannot build the fake GPUs: no C compiler (cc, gcc, clang); install gcc"
    assert done.stderr == f"mlopsd: {missing}\n"


def test_the_kinds_of_pretended_gpus_that_help_names_are_those_there_are() -> None:
    assert list(SCENARIOS) == build.scenarios()


@pytest.mark.needs("cc")
def test_a_scenario_that_was_changed_stays_and_a_file_of_ones_own_is_used_where_it_is(tmp_path: Path) -> None:
    first = prepared("t4", tmp_path)
    changed = Path(first["scenario"])
    changed.write_text("changed")
    assert Path(prepared("t4", tmp_path)["scenario"]).read_text() == "changed"
    assert prepared(str(changed), tmp_path / "other")["scenario"] == str(changed)


def test_a_port_that_is_taken_is_one_line_before_anything_is_trained(short: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = mlopsd("demo", "--folder", short, "--port", str(port))
    assert (done.returncode, done.stdout) == (1, "")
    cure = "stop what holds it or choose another with --port"
    assert done.stderr == f"mlopsd: cannot listen on 127.0.0.1:{port}: address already in use; {cure}\n"
    assert not (short / "mlflow.db").exists()


def test_a_mistake_in_the_users_configuration_is_one_line(short: Path) -> None:
    folder = DemoFolder(short)
    folder.create()
    folder.config.write_text(folder.config.read_text().replace("interval", "intervall"))
    done = mlopsd("demo", "--folder", short)
    assert done.returncode == 1
    assert "probes.model.intervall" in done.stderr
    assert "did you mean 'interval'?" in done.stderr
