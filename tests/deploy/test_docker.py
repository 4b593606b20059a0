"""The Dockerfile without an engine: its linter, its context, its configuration, its commands."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from mlopsd.config.schema import Settings
from tests.cli.command import mlopsd
from tests.deploy.image import DOCKERFILE, ROOT, all_of, environment, health_check
from tests.running import GIVE_UP, Running

HADOLINT = Path(sys.prefix, "bin/hadolint")


def test_the_linter_finds_nothing() -> None:
    done = subprocess.run([HADOLINT, DOCKERFILE], capture_output=True, text=True, timeout=GIVE_UP)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_linter_would_find_something(tmp_path: Path) -> None:
    worse = tmp_path / "Dockerfile"
    worse.write_text(DOCKERFILE.read_text("utf-8").replace("USER 10001:10001", "USER root"), "utf-8")
    done = subprocess.run([HADOLINT, worse], capture_output=True, text=True, timeout=GIVE_UP)
    assert "DL3002" in done.stdout


def sources() -> list[str]:
    return [word for line in all_of("COPY") if "--from" not in line for word in line.split()[:-1]]


def test_what_is_copied_is_let_into_the_context_and_nothing_else() -> None:
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == set(sources())
    assert "tests" in {path.name for path in ROOT.iterdir()} - set(sources())


def test_what_is_copied_is_enough_to_build_the_wheel_with_all_that_it_ships(tmp_path: Path) -> None:
    context = tmp_path / "src"
    context.mkdir()
    for name in set(sources()):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, context / name)
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(tmp_path),
        str(context),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    (built,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(built) as wheel:
        infos = {info.filename.partition(".data/data/")[2]: info for info in wheel.infolist()}
        assert "mlopsd/data/config.toml" in wheel.namelist()
    program = infos["share/mlopsd/slurm/mlopsd-health-check"]
    assert program.external_attr >> 16 & 0o111 == 0o111, "slurmd could not run it"
    assert "share/mlopsd/kubernetes/serving.yaml" in infos


def test_the_image_is_not_roots_has_no_secret_and_shows_the_daemons_port() -> None:
    assert all_of("USER")[-1] == "10001:10001"
    assert all_of("EXPOSE") == [str(Settings().api.port)]
    assert all_of("ARG") == []
    assert not [name for name in environment() if "KEY" in name or "TOKEN" in name or "PASSWORD" in name]


def test_the_configuration_in_the_image_is_a_good_one(tmp_path: Path) -> None:
    ours = {name: value for name, value in environment().items() if name.startswith("MLOPSD_")}
    config = tmp_path / "config.toml"
    shutil.copy(ROOT / "config.toml", config)
    assert "config.toml /etc/mlopsd/config.toml" in all_of("COPY")
    done = mlopsd("config", "check", "--config", config, env=ours)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_command_is_the_daemon() -> None:
    command = json.loads(all_of("ENTRYPOINT")[0]) + json.loads(all_of("CMD")[0])
    assert command == ["mlopsd", "run"]


@pytest.mark.parametrize("status", [0, 1])
def test_the_health_check_asks_whether_the_daemon_lives(status: int, tmp_path: Path) -> None:
    with Running(tmp_path, "") as daemon:
        if status == 1:
            daemon.stop()
        program, *words = health_check()
        assert program == "python3"
        port = f":{Settings().api.port}/"
        assert sum(port in word for word in words) == 1
        words = [word.replace(port, f":{daemon.port}/") for word in words]
        done = subprocess.run(
            [sys.executable, *words], env=dict(os.environ), capture_output=True, timeout=GIVE_UP
        )
    assert done.returncode == status
