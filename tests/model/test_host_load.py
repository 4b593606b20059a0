"""Versions that cannot be loaded: each is named by its cause, and nothing of it stays behind."""

import asyncio
import logging
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from mlopsd_probes.model.serving.host import LoadFailed, ModelHost
from mlopsd_probes.model.version import CachedVersion
from tests.model.asking import hosts_left_in
from tests.model.models.saved import RecordedMetrics, host_context, kept, options, troubled

pytestmark = pytest.mark.timeout(900)

HANG = 20.0  # seconds until a load that hangs is ended; on busy cores MLflow takes half of that to import
PATIENCE = 400.0
HANGS = ("sleeps", "holds_the_gil")
LOG = logging.getLogger("mlopsd.test.host")
FAULTS = {
    "sleeps": "sleep 600",
    "holds_the_gil": "hold_the_gil",
    "leaves": "leave 7",
    "exits": "quit_by_exception 3",
    "crashes": "crash",
    "needs": "need not_installed_anywhere",
    "needs_a_part": "need json.nonesuch",
    "needs_a_private": "need _loss",
    "is_killed": "be_killed",
    "is_terminated": "end_by 15",
    "has_bus_error": "end_by 7",
    "aborts": "end_by 6",
    "is_full": "lack 28",
    "fails": "fail no weights for layer 3",
    "fills_memory": "fill_memory",
    "has_children": "start_children",
}


class Loaded:
    """The result of a load, and the files that it left."""

    def __init__(self) -> None:
        self.failures: dict[str, LoadFailed] = {}
        self.metrics = RecordedMetrics()
        self.left: list[str] = []
        self.descriptors = 0


def spoilt(folder: Path) -> dict[str, CachedVersion]:
    """Versions whose files are not what was fetched."""
    whole = {name: kept(troubled(folder / name)) for name in ("missing", "changed", "cut", "extra", "linked")}
    (folder / "missing/data/what.txt").unlink()
    (folder / "changed/data/what.txt").write_text("", "utf-8")
    changed = [
        replace(file, sha256="0" * 64) if "what" in file.path else file for file in whole["changed"].files
    ]
    with (folder / "cut/MLmodel").open("r+b") as file:
        file.truncate(10)
    (folder / "extra/code/extra.py").write_text("", "utf-8")
    (folder / "linked/more").symlink_to("/etc")
    return {**whole, "changed": replace(whole["changed"], files=tuple(changed))}


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    before = psutil.Process().num_fds()
    folder = tmp_path_factory.mktemp("load")
    result = asyncio.run(_load_all(folder))
    result.left += map(str, hosts_left_in(folder))
    result.descriptors = psutil.Process().num_fds() - before
    return result


async def _load_all(folder: Path) -> Loaded:
    """A few at a time: importing MLflow takes most of it."""
    for name, what in FAULTS.items():
        troubled(folder / name, what)
    (folder / "needs_a_private/requirements.txt").write_text("mlopsd==0.0.1\nmlflow==2.0\n", "utf-8")
    versions = {name: kept(folder / name) for name in FAULTS}
    versions |= spoilt(folder / "spoilt")
    result, few = Loaded(), asyncio.Semaphore(8)

    async def load(name: str, version: CachedVersion, **table: Any) -> None:
        async with few:
            try:
                host = await ModelHost.load(
                    version,
                    options(load_timeout=HANG if name in HANGS else PATIENCE, **table),
                    host_context(folder / "scratch", result.metrics),
                    hidden=[folder],
                )
            except LoadFailed as error:
                result.failures[name] = error
            else:
                await host.kill()

    async with asyncio.TaskGroup() as tasks:
        for name, version in versions.items():
            tasks.create_task(load(name, version))
        tasks.create_task(load("has_no_mlflow", versions["leaves"], python=bare_python(folder)))
        tasks.create_task(load("has_no_python", versions["leaves"], python=folder / "nowhere/python"))
    result.left = [str(path) for path in (folder / "scratch").iterdir()]
    return result


def bare_python(folder: Path) -> Path:
    """An interpreter without packages."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "bare"], check=True)
    return folder / "bare/bin/python"


@pytest.mark.parametrize(
    ("name", "kind", "reason"),
    [
        ("missing", "corrupt", "the file data/what.txt is missing on disk"),
        (
            "changed",
            "corrupt",
            "the file data/what.txt on disk is not what was fetched (its SHA-256 differs)",
        ),
        ("cut", "corrupt", "the file MLmodel has 10 bytes on disk, "),
        ("extra", "corrupt", "the file code/extra.py is on disk and was never fetched"),
        ("linked", "corrupt", "the file more is on disk and was never fetched"),
        ("sleeps", "timeout", "for more than 20 s (load_timeout)"),
        ("holds_the_gil", "timeout", "for more than 20 s (load_timeout)"),
        ("leaves", "died", "its process ended with exit status 7 while it was loading the model"),
        ("exits", "error", "loading it raised SystemExit: 3"),
        ("crashes", "died", "its process was killed by SIGSEGV while it was loading the model"),
        ("is_terminated", "signal", "its process was killed by SIGTERM while it was loading the model"),
        ("has_bus_error", "signal", "its process was killed by SIGBUS while it was loading the model"),
        ("aborts", "died", "its process was killed by SIGABRT while it was loading the model"),
        ("is_full", "scarce", "this host could not load it: No space left on device"),
        ("needs", "import_error", "it needs the module 'not_installed_anywhere', which "),
        ("fails", "error", "loading it raised ValueError: no weights for layer 3"),
        ("fills_memory", "out_of_memory", "this host could not load it: not enough memory (MemoryError)"),
        ("has_no_mlflow", "import_error", "bare/bin/python has no mlflow; install it there"),
        ("has_no_python", "interpreter", "nowhere/python: No such file or directory"),
        (
            "is_killed",
            "killed",
            "was killed by SIGKILL while it was loading the model; the kernel does",
        ),
        ("needs", "import_error", "does not have; install it there, or set python"),
        ("needs_a_part", "import_error", "it needs the module 'json.nonesuch', which "),
        ("needs_a_private", "import_error", "; it was logged with mlopsd 0.0.1 ("),
    ],
)
def test_a_failed_load_names_its_cause(loaded: Loaded, name: str, kind: str, reason: str) -> None:
    failure = loaded.failures[name]

    assert failure.kind == kind
    assert reason in failure.reason


@pytest.mark.parametrize("name", ["needs_a_part", "needs_a_private"])
def test_nobody_is_advised_to_install_a_part_of_a_library(loaded: Loaded, name: str) -> None:
    assert "install" not in loaded.failures[name].reason.replace("installed", "")


def test_failed_loads_leave_no_process_no_file_and_no_descriptor(loaded: Loaded) -> None:
    assert loaded.left == []
    assert loaded.descriptors <= 0
    assert "has_children" not in loaded.failures  # it was loaded, and killed with its children


def test_a_load_that_is_cancelled_leaves_nothing(tmp_path: Path) -> None:
    async def cancelled() -> None:
        load = asyncio.create_task(
            ModelHost.load(
                kept(troubled(tmp_path / "model", "sleep 600")),
                options(),
                host_context(tmp_path / "scratch"),
                hidden=[tmp_path],
            )
        )
        while not list((tmp_path / "scratch").glob("*")):
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)
        load.cancel()
        with pytest.raises(asyncio.CancelledError):
            await load

    asyncio.run(cancelled())

    assert not list((tmp_path / "scratch").iterdir())
    assert not hosts_left_in(tmp_path)
