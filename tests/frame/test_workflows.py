"""The workflows on GitHub: two linters find nothing, and no job may more than it needs."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.running import GIVE_UP

ROOT = Path(__file__).parents[2]
GITHUB = ROOT / ".github"
WORKFLOWS = sorted(GITHUB.glob("workflows/*.yml"))
PINNED = re.compile(r"uses: [\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")
MAY_WRITE = {("release.yml", "publish"): {"attestations": "write", "id-token": "write"}}


def zizmor(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.prefix, "bin/zizmor")), "--offline", "--no-progress", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, timeout=GIVE_UP)


def jobs() -> Iterator[tuple[Path, str, Mapping[str, Any]]]:
    for path in WORKFLOWS:
        for name, job in yaml.safe_load(path.read_text("utf-8"))["jobs"].items():
            yield path, name, job


def test_zizmor_finds_nothing() -> None:
    done = zizmor(GITHUB)
    assert done.returncode == 0, done.stdout


def test_zizmor_would_find_something(tmp_path: Path) -> None:
    shutil.copytree(GITHUB, tmp_path / ".github")
    worse = tmp_path / ".github/workflows/release.yml"
    worse.write_text(worse.read_text("utf-8").replace("${TAG#v}", "${{ github.ref_name }}"), "utf-8")
    done = zizmor(tmp_path / ".github")
    assert done.returncode != 0
    assert "template-injection" in done.stdout


@pytest.mark.parametrize(
    ("schema", "paths"),
    [("vendor.github-workflows", WORKFLOWS), ("vendor.dependabot", [GITHUB / "dependabot.yml"])],
)
def test_the_files_are_of_the_form_that_github_takes(schema: str, paths: list[Path]) -> None:
    program = str(Path(sys.prefix, "bin/check-jsonschema"))
    done = subprocess.run(
        [program, "--builtin-schema", schema, *map(str, paths)],
        capture_output=True,
        text=True,
        timeout=GIVE_UP,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_each_action_is_pinned_by_its_commit_and_says_its_version(path: Path) -> None:
    used = [
        line.strip().removeprefix("- ") for line in path.read_text("utf-8").splitlines() if "uses:" in line
    ]
    assert used
    assert [line for line in used if not PINNED.fullmatch(line)] == []


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_has_no_rights_but_those_of_its_jobs(path: Path) -> None:
    assert yaml.safe_load(path.read_text("utf-8"))["permissions"] == {}


def test_a_job_reads_the_repository_and_only_the_publishing_one_writes() -> None:
    for path, name, job in jobs():
        assert job["permissions"] == MAY_WRITE.get((path.name, name), {"contents": "read"}), (path.name, name)
        assert job["timeout-minutes"], (path.name, name)


def test_nothing_is_published_without_an_approval_and_no_secret_is_used() -> None:
    (publish,) = [job for path, name, job in jobs() if (path.name, name) in MAY_WRITE]
    assert publish["environment"] == "release"
    assert [path.name for path in WORKFLOWS if "secrets." in path.read_text("utf-8")] == []


def test_each_target_of_make_that_a_workflow_runs_is_there() -> None:
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    named = {target for path in WORKFLOWS for target in re.findall(r"make ([a-z]+)", path.read_text("utf-8"))}
    assert named
    assert named <= set(targets)


def test_each_hook_before_a_commit_runs_a_tool_of_the_virtual_environment() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))
    hooks = [hook for repository in config["repos"] for hook in repository["hooks"]]
    assert {hook["id"] for hook in hooks} >= {"ruff-format", "ruff-check", "mypy", "lint-imports", "zizmor"}
    for hook in hooks:
        assert hook["language"] == "system"
        program = hook["entry"].split()[0]
        assert program.startswith(".venv/bin/")
        assert Path(sys.prefix, "bin", Path(program).name).exists(), program
