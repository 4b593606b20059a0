"""The client of a registry: the packages that it needs, and the libraries that it does without."""

import asyncio
import logging
import subprocess
import sys
import tomllib
import venv
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from mlopsd.log_limit import LogLimiter
from mlopsd_probes.registry import client as clients
from mlopsd_probes.registry.client import ClientProcess, Unanswered
from mlopsd_probes.registry.options import RegistryOptions
from mlopsd_probes.registry.slim import OF_MODELS
from tests.conftest import OLDEST
from tests.model.registry_server import Shop

pytestmark = pytest.mark.timeout(600)  # a registry is filled

ROOT = Path(__file__).parents[2]
PATIENCE = 120.0
LATE_IMPORT = """
from mlopsd_probes.registry.slim import OF_MODELS, without_libraries_of_models
import importlib.util, sys
with without_libraries_of_models():
    import mlflow
    assert not any(importlib.util.find_spec(name) for name in OF_MODELS)
assert not set(OF_MODELS) & set(sys.modules)
import numpy, pandas, pyarrow.fs
from mlflow.store.artifact.hdfs_artifact_repo import HdfsArtifactRepository
print(numpy.float64(1.5), len(pandas.DataFrame({"a": [1.0]})))
"""


@asynccontextmanager
async def client(uri: str, folder: Path) -> AsyncIterator[ClientProcess]:
    log = logging.getLogger("mlopsd.test")
    made = ClientProcess(
        RegistryOptions(uri=uri), folder / "client", PATIENCE, name="model", log=log, printed=LogLimiter()
    )
    try:
        yield made
    finally:
        await made.end()


async def resolve(client: ClientProcess) -> Any:
    question = {"do": "resolve", "model": "iris", "candidates": ["@champion"]}
    return (await client.ask(question, PATIENCE))["found"]


async def metrics_of(client: ClientProcess, version: Any) -> Any:
    question = {"do": "metrics", "run_id": version["run_id"], "source": version["source"]}
    return (await client.ask(question, PATIENCE))["metrics"]


async def fetch(client: ClientProcess, folder: Path) -> list[str]:
    await asyncio.to_thread(folder.mkdir)
    question = {"do": "fetch", "model": "iris", "version": "1", "folder": str(folder), "parallel": 4}
    return [path for path, _, _ in (await client.ask(question, PATIENCE))["files"]]


def mapped(client: ClientProcess) -> set[str]:
    """Return the packages whose native code the process has in memory."""
    assert client._running is not None
    lines = Path(f"/proc/{client._running.child.pid}/maps").read_text("utf-8").splitlines()
    return {line.partition("/site-packages/")[2].partition("/")[0] for line in lines}


def run_by(python: Path, patch: pytest.MonkeyPatch) -> None:
    """Let clients run in the interpreter *python*."""
    patch.setattr(clients, "COMMAND", (str(python), *clients.COMMAND[1:]))
    patch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'probes'}")


async def test_a_client_has_no_library_that_only_models_need(newest: Shop, tmp_path: Path) -> None:
    async with client(newest.uri, tmp_path) as asked:
        version = await resolve(asked)
        assert {"accuracy", "f1"} <= set(await metrics_of(asked, version))
        assert "MLmodel" in await fetch(asked, tmp_path / "files")
        assert "pydantic_core" in mapped(asked)
        assert not set(OF_MODELS) & mapped(asked)


async def test_nor_has_that_of_a_database(embedded: Shop, tmp_path: Path) -> None:
    async with client(embedded.uri, tmp_path) as asked:
        assert (await resolve(asked))["number"] == "1"
        assert not set(OF_MODELS) & mapped(asked)


def test_what_is_imported_later_finds_the_libraries() -> None:
    """As a store's client may need them."""
    command = [sys.executable, "-W", "ignore", "-c", LATE_IMPORT]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout) == (0, "1.5 1\n"), done.stderr


@pytest.mark.needs("oldest")
async def test_the_oldest_client_reads_versions_and_runs_and_names_what_it_cannot(
    newest: Shop, oldest: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It knows no logged models: a threshold for a metric of one must not go unseen."""
    run_by(OLDEST / "bin" / "python", monkeypatch)
    async with client(oldest.uri, tmp_path / "oldest") as asked:
        assert (await metrics_of(asked, await resolve(asked)))["accuracy"]["value"] == 0.7
        assert "MLmodel" in await fetch(asked, tmp_path / "files of the oldest")
        assert not set(OF_MODELS) & mapped(asked)
    async with client(newest.uri, tmp_path / "newest") as asked:
        version = await resolve(asked)
        with pytest.raises(Unanswered, match=r"has MLflow 2\.22\.0, .* logged models; install .*mlflow>=3"):
            await metrics_of(asked, version)
        assert "MLmodel" in await fetch(asked, tmp_path / "files of the newest")


async def test_mlflow_skinny_is_enough_for_a_server(
    newest: Shop, skinny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_by(skinny, monkeypatch)
    async with client(newest.uri, tmp_path) as asked:
        version = await resolve(asked)
        assert {"accuracy", "f1"} <= set(await metrics_of(asked, version))
        assert "MLmodel" in await fetch(asked, tmp_path / "files")


async def test_mlflow_skinny_is_not_enough_for_a_database_and_the_package_is_named(
    embedded: Shop, skinny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_by(skinny, monkeypatch)
    async with client(embedded.uri, tmp_path) as asked:
        with pytest.raises(
            Unanswered, match=rf"{skinny} has no module 'sqlalchemy'; install it: .* install 'mlflow'"
        ):
            await resolve(asked)


@pytest.fixture(scope="module")
def skinny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter that has only the packages of ``mlopsd[registry]``, linked from this one's."""
    folder = tmp_path_factory.mktemp("skinny")
    venv.create(folder, symlinks=True)
    (site_packages,) = folder.glob("lib/python*/site-packages")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = [*extras["dependencies"], *extras["optional-dependencies"]["registry"]]
    for package in required(map(Requirement, wanted)):
        link(package, site_packages)
    return folder / "bin" / "python"


def required(wanted: Iterable[Requirement]) -> Iterator[Distribution]:
    """Yield the distributions of *wanted*, and all that they require."""
    waiting, seen = list(wanted), set()
    while waiting:
        one = waiting.pop()
        names = {"", *one.extras}
        if one.marker is not None and not any(one.marker.evaluate({"extra": name}) for name in names):
            continue
        if (key := (one.name, *sorted(one.extras))) in seen:
            continue
        seen.add(key)
        found = distribution(one.name)
        yield found
        for line in found.requires or ():
            inner = Requirement(line)
            if inner.marker is None or any(inner.marker.evaluate({"extra": name}) for name in names):
                inner.marker = None
                waiting.append(inner)


def link(package: Distribution, site_packages: Path) -> None:
    for file in package.files or ():
        if ".." not in file.parts and "__pycache__" not in file.parts:
            target = site_packages / file
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            target.symlink_to(Path(str(package.locate_file(file))))
