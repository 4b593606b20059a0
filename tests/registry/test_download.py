"""Fetching a version: whole and as the registry lists it, or not at all and with the reason."""

import asyncio
import errno
import logging
import os
import signal
import subprocess
import warnings
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from mlopsd.log_limit import LogLimiter
from mlopsd_probes.registry.client import ClientProcess, Unanswered
from mlopsd_probes.registry.options import RegistryOptions
from mlopsd_probes.registry.registries import FetchError, Registries
from mlopsd_probes.registry.version import Version
from tests.model import meddler as meddling
from tests.model.asking import Counted, asking, clients, rest
from tests.model.meddler import Act, Meddler
from tests.model.registry_server import Shop

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(600)]  # a registry is filled

JSON = "application/json"
SCRIPT = "constant.py"  # among the files of version 4
PATIENCE = 60.0


@pytest.fixture(scope="module")
def meddler(newest: Shop) -> Iterator[Meddler]:
    with Meddler(newest.uri) as one:
        yield one


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(meddler: Meddler, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ClientProcess]:
    """One process that fetches again and again, which is quicker than one for each time."""
    folder = tmp_path_factory.mktemp("client") / "folder"
    options = RegistryOptions(uri=meddler.uri)
    log = logging.getLogger("mlopsd.test")
    made = ClientProcess(options, folder, PATIENCE / 2, name="model", log=log, printed=LogLimiter())
    yield made
    await made.end()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the files go, two below a folder that stays empty otherwise."""
    made = tmp_path / "deep" / "folder"
    made.mkdir(parents=True)
    return made


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real one of 1 MiB."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)], check=True)
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


@pytest.mark.parametrize(
    ("kind", "said", "part", "act"),
    [
        ("missing", "is listed and is not there", SCRIPT, meddling.instead(SCRIPT, "nonesuch.py")),
        ("bad_response", "answered 404 with text/html", SCRIPT, meddling.status(404)),
        ("bad_response", "answered 404 with", SCRIPT, meddling.status(404, JSON, b'{"a": 1}')),
        ("bad_response", "lists no files", "artifacts?path=", meddling.status(200, JSON, b"{}")),
        ("bad_response", "no MLmodel among its 1", "artifacts?path=", meddling.listing(("x", 3))),
        ("bad_response", "answered 200", "artifacts?path=", meddling.status(200)),
        ("truncated", "bytes twice, the registry lists", SCRIPT, meddling.shorten),
        ("bad_response", "broke off", SCRIPT, meddling.break_off),
        ("server_error", "500", "requirements.txt", meddling.status(500)),
        ("auth", "401", SCRIPT, meddling.status(401)),
        ("server_error", "500", "get-download-uri", meddling.status(500)),
        ("absent", "check the name", "get-download-uri", meddling.instead("version=4", "version=99")),
        ("bad_response", "200", "artifacts?path=", meddling.listing(("MLmodel", 3), ("../../outside", 3))),
        ("bad_response", "in the listing, and more than", SCRIPT, meddling.endless),
        ("disk_full", "are free in ", "artifacts?path=", meddling.listing(("MLmodel", 2**60))),
    ],
)
async def test_what_cannot_be_had_whole_is_not_had(
    client: ClientProcess, meddler: Meddler, folder: Path, kind: str, said: str, part: str, act: Act
) -> None:
    meddler.meddle(part, act)
    question = {"do": "fetch", "model": "iris", "version": "4", "folder": str(folder)}
    with pytest.raises(Unanswered) as caught:
        await client.ask(question, PATIENCE)
    assert (caught.value.kind, said in caught.value.reason) == (kind, True), caught.value
    found = rest(folder.parent.parent)  # other files of the version may still be on their way into the folder
    around = {path for path in found if folder not in path.parents}
    assert around - {folder.parent / "journal"} == {folder.parent, folder}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def asked(
    meddler: Meddler, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Registries, Counted]]:
    meddler.behave()
    scratch = tmp_path_factory.mktemp("registries") / "scratch"
    options = {"candidates": ["4"], "registry_timeout": PATIENCE}
    async with asking(scratch, meddler.uri, **options) as (registries, counted):
        await registries.resolve()
        yield registries, counted
        meddler.behave()


async def named(registries: Registries) -> Version:
    found = (await registries.resolve()).found
    assert found is not None
    return found


def ignore(size: int, total: int | None) -> None:
    """Progress, for who does not care."""


async def test_progress_is_told_up_to_the_last_byte(
    asked: tuple[Registries, Counted], meddler: Meddler, tmp_path: Path
) -> None:
    registries, counted = asked
    meddler.meddle(SCRIPT, meddling.slowly)
    version = await named(registries)
    progress: list[tuple[int, int | None]] = []
    files = await registries.fetch(version, tmp_path, lambda size, total: progress.append((size, total)))
    assert {file.path for file in files} >= {"MLmodel", SCRIPT}
    total = sum(file.size for file in files)
    assert progress == sorted(progress, key=lambda one: one[0])
    assert progress[-1] == (total, total)
    assert len(progress) > 1
    assert counted[-1] == ("fetch", "ok")


@pytest.mark.parametrize(
    ("idle", "rate", "said", "act"),
    [
        (1, 0, "no byte came for 1 s", meddling.silence),
        (1, 0, "no byte came for 1 s", meddling.stall),
        (1, 1000, "less than 1000 bytes per second over 2 s", meddling.drip),
    ],
)
async def test_who_is_too_slow_is_not_waited_for(
    asked: tuple[Registries, Counted],
    meddler: Meddler,
    tmp_path: Path,
    folder: Path,
    idle: float,
    rate: int,
    said: str,
    act: Act,
) -> None:
    """A byte now and then is no silence; only the least rate ends that."""
    version = await named(asked[0])
    options = {"fetch_idle_timeout": idle, "fetch_min_rate": rate}
    async with asking(tmp_path / "scratch", meddler.uri, **options) as (registries, counted):
        before = clients()
        meddler.meddle(SCRIPT, act)
        with pytest.raises(FetchError, match=said) as caught:
            await registries.fetch(version, folder, ignore)
        assert caught.value.kind == "timeout"
        assert counted == [("fetch", "timeout")]
        assert clients() == before
        meddler.behave()


async def test_the_registry_can_be_asked_while_a_version_is_fetched(
    asked: tuple[Registries, Counted], meddler: Meddler, tmp_path: Path
) -> None:
    """And whoever gives up on the fetch leaves nothing of it running."""
    registries, _ = asked
    version = await named(registries)
    before = clients()
    fetching = await held_back(registries, version, meddler, tmp_path)
    assert len(clients()) == len(before) + 1
    assert await named(registries) == version
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching
    assert clients() == before


async def test_a_process_that_is_killed_while_it_fetches_is_told_as_that(
    asked: tuple[Registries, Counted], meddler: Meddler, tmp_path: Path
) -> None:
    registries, _ = asked
    version = await named(registries)
    before = clients()
    fetching = await held_back(registries, version, meddler, tmp_path)
    (fetcher,) = set(clients()) - set(before)
    os.kill(fetcher, signal.SIGKILL)
    with pytest.raises(FetchError, match="killed by SIGKILL"):
        await fetching
    assert clients() == before


async def test_the_end_is_the_end_of_a_fetch_too(meddler: Meddler, tmp_path: Path, folder: Path) -> None:
    """`asking` sees to it that closing takes no time and leaves nothing."""
    options = {"candidates": ["4"], "registry_timeout": PATIENCE}
    async with asking(tmp_path / "scratch", meddler.uri, **options) as (registries, _):
        version = await named(registries)
        fetching = await held_back(registries, version, meddler, folder)
        meddler.behave()
    with pytest.raises(FetchError):
        await fetching


async def held_back(
    registries: Registries, version: Version, meddler: Meddler, folder: Path
) -> "asyncio.Task[object]":
    """A fetch that waits for a file."""
    meddler.meddle(SCRIPT, meddling.silence)
    fetching: asyncio.Task[object] = asyncio.ensure_future(registries.fetch(version, folder, ignore))
    while not any(SCRIPT in asked.path for asked in meddler.asked):
        assert not fetching.done(), fetching
        await asyncio.sleep(0.01)
    return fetching


@pytest.mark.needs("root", "mount")
async def test_a_disk_that_fills_up_is_told_as_that(
    client: ClientProcess, meddler: Meddler, small_disk: Path
) -> None:
    """By a file of 3 MB of which the store does not know how large it is."""
    meddler.meddle("artifacts?path=", meddling.listing(("MLmodel", None), ("data/data/weights", None)))
    folder = small_disk / "files"
    folder.mkdir()
    question = {"do": "fetch", "model": "iris", "version": "3", "folder": str(folder)}
    with pytest.raises(Unanswered, match="No space left on device; make room") as caught:
        await client.ask(question, PATIENCE)
    assert caught.value.kind == "disk_full"


@pytest.mark.parametrize(("path", "kind"), [("/state/part/MLmodel", "disk"), ("/srv/runs/1", "unreachable")])
async def test_a_forbidden_file_is_the_disks_trouble_where_it_is_ours_and_else_the_registrys(
    path: str, kind: str
) -> None:
    with warnings.catch_warnings():  # MLflow warns of itself as it is imported
        warnings.simplefilter("ignore")
        from mlopsd_probes.registry.errors import classify
    error = PermissionError(errno.EACCES, "Permission denied", path)
    fault = classify(error, ours=[Path("/state/part")])
    assert (fault.kind, str(fault)) == (kind, f"cannot use {path}: Permission denied; make it accessible")
