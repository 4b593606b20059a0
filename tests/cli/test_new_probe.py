"""``mlopsd probes new``: its package installs, passes the kit, mypy and ruff as written."""

import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest

from mlopsd.cli.new_probe import needed_range
from tests.cli.command import mlopsd
from tests.venvs import Venv

LONGEST = "a_name_of_exactly_32_characters0"


@pytest.mark.parametrize("name", ["x", LONGEST])
def test_its_package_installs_and_passes_everything_as_written(tmp_path: Path, name: str) -> None:
    done = mlopsd("probes", "new", name, "--path", tmp_path)
    (folder,) = tmp_path.iterdir()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"wrote {folder}; now: cd {folder} && pip install")
    venv = Venv(tmp_path / "venv")
    venv.install(folder)
    tests = venv.run("pytest", "-q", "-p", "no:cacheprovider", cwd=folder)
    assert tests.returncode == 0, tests.stdout
    for command in (("mypy",), ("ruff", "check"), ("ruff", "format", "--check")):
        judged = venv.run(*command, cwd=folder)
        assert judged.returncode == 0, judged.stdout + judged.stderr
    (tmp_path / "my.toml").write_text(f'[probes.{name}]\npath = "{folder}"\n', "utf-8")
    seen = venv.run("mlopsd", "check", name, "--samples", "--config", tmp_path / "my.toml")
    assert f'mlopsd_{name}_entries{{probe="{name}",kind="file"}} 2\n' in seen.stdout
    listed = venv.run("mlopsd", "probes").stdout
    assert "degraded with more entries than this" in listed


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("Disk", "not a valid name; use lower-case letters, "),
        ("1disk", "not a valid name; "),
        ("a__b", "not a valid name; "),
        ("disk_", "not a valid name; "),
        ("../disk", "not a valid name; "),
        ("detailed", "not a valid name; "),
        ("a" * 33, "not a valid name; "),
        ("fine", "odd 1.0 provides it; choose another name"),
        ("gpu", "provides it; choose another name"),
    ],
)
def test_a_bad_or_taken_name_is_refused(
    odd: Mapping[str, str], tmp_path: Path, name: str, reason: str
) -> None:
    done = mlopsd("probes", "new", name, "--path", tmp_path / "here", env=odd)
    assert done.returncode == 1
    assert done.stderr.startswith(f"mlopsd: cannot write probe {name!r}: ")
    assert reason in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "here").exists()


def test_a_name_is_needed() -> None:
    done = mlopsd("probes", "new")
    assert done.stderr == ("mlopsd: cannot write a probe: it has no name; add one: mlopsd probes new NAME\n")


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    kept = tmp_path / "mlopsd-probe-disk"
    kept.mkdir()
    done = mlopsd("probes", "new", "disk", "--path", tmp_path)
    assert done.returncode == 1
    assert done.stderr == f"mlopsd: cannot write {kept}: it exists; choose another name or --path\n"
    assert list(kept.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = mlopsd("probes", "new", "disk", "--path", tmp_path / "file")
    assert "Not a directory; choose another --path\n" in done.stderr


@pytest.mark.parametrize(
    ("installed", "needed"),
    [("0.1.0", "mlopsd>=0.1,<0.2"), ("0.12.3rc1", "mlopsd>=0.12,<0.13"), ("2.3.1", "mlopsd>=2.3,<3")],
)
def test_a_package_needs_the_versions_with_the_same_contract(installed: str, needed: str) -> None:
    assert needed_range(installed) == needed


def test_the_written_package_needs_this_version(tmp_path: Path) -> None:
    mlopsd("probes", "new", "disk", "--path", tmp_path)
    project = tomllib.loads((tmp_path / "mlopsd-probe-disk/pyproject.toml").read_text("utf-8"))["project"]
    assert project["dependencies"] == ["mlopsd>=0.1,<0.2"]
