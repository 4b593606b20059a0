"""The source distribution and the wheel: what is in them, and that one makes the other."""

import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path, PurePosixPath

import pytest

pytestmark = pytest.mark.needs("git")
ROOT = Path(__file__).parents[2]
HATCHLING_ADDS = {"PKG-INFO", ".gitignore"}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with a source distribution, and with the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, timeout=240)
    return folder


@pytest.fixture(scope="module")
def shipped(built: Path) -> set[str]:
    """The files in the source distribution, by their paths in the repository."""
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        return {str(PurePosixPath(*PurePosixPath(name).parts[1:])) for name in archive.getnames()}


def committed(*paths: str) -> set[str]:
    command = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard", *paths]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return {line for line in done.stdout.splitlines() if (ROOT / line).exists()}


def test_nothing_is_shipped_that_the_repository_ignores(shipped: set[str]) -> None:
    assert shipped - committed() - HATCHLING_ADDS == set()


def test_all_of_the_code_the_documents_and_the_examples_is_shipped(shipped: set[str]) -> None:
    needed = ("LICENSE", "README.md", "config.toml", "deploy", "docs", "mlopsd", "mlopsd.service", "probes")
    assert committed("pyproject.toml", *needed) - shipped == set()


def test_the_wheel_has_the_code_the_licence_and_what_install_copies(built: Path) -> None:
    (path,) = built.glob("*.whl")
    with zipfile.ZipFile(path) as wheel:
        names = set(wheel.namelist())
    code = {name.removeprefix("probes/") for name in committed("mlopsd", "probes")}
    assert code - names == set()
    assert {"mlopsd/data/config.toml", "mlopsd/data/mlopsd.service"} <= names
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_twine_finds_nothing(built: Path) -> None:
    command = [sys.executable, "-m", "twine", "check", "--strict", *map(str, built.iterdir())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout


def test_the_group_for_developers_holds_the_others_and_no_extra_has_a_groups_name() -> None:
    tables = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    groups = set(tables["dependency-groups"])
    held = {part["include-group"] for part in tables["dependency-groups"]["dev"]}
    assert groups - held - {"docs"} == {"dev"}
    assert groups & set(tables["project"]["optional-dependencies"]) == {"dev"}
