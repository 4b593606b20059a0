"""Fetching a version: whole and as the registry lists it, or not at all and with the reason."""

import asyncio
import hashlib
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from mlopsd_probes.model.registry import FetchError, Registries
from mlopsd_probes.model.version import File, Version
from tests.model import meddler as meddling
from tests.model.asking import asking, clients
from tests.model.meddler import Act, Meddler
from tests.model.registry_server import Shop

Told = list[tuple[int, int | None]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the files go."""
    made = tmp_path / "files"
    made.mkdir()
    return made


@pytest.fixture
def meddler(newest: Shop) -> Iterator[Meddler]:
    with Meddler(newest.uri) as one:
        yield one


async def named(registries: Registries) -> Version:
    found = (await registries.resolve()).found
    assert found is not None
    return found


async def fetched(registries: Registries, folder: Path) -> tuple[tuple[File, ...], Told]:
    told: Told = []
    files = await registries.fetch(
        await named(registries), folder, lambda size, total: told.append((size, total))
    )
    return files, told


@pytest.mark.parametrize(
    ("shop", "candidate", "among"),
    [
        ("newest", "1", "model.skops"),
        ("newest", "2", "model.skops"),
        ("newest", "3", "data/data/weights"),
        ("newest", "4", "constant.py"),
        ("embedded", "1", "model.skops"),
        ("embedded", "2", "model.skops"),
        pytest.param("oldest", "1", "model.pkl", marks=pytest.mark.needs("oldest")),
        pytest.param("oldest", "2", "model.pkl", marks=pytest.mark.needs("oldest")),
        pytest.param("oldest", "3", "code/helper.py", marks=pytest.mark.needs("oldest")),
    ],
)
async def test_a_version_comes_whole(
    request: pytest.FixtureRequest, tmp_path: Path, folder: Path, shop: str, candidate: str, among: str
) -> None:
    found: Shop = request.getfixturevalue(shop)
    async with asking(tmp_path / "scratch", found.uri, candidates=[candidate]) as (registries, counted):
        files, told = await fetched(registries, folder)
    on_disk = {
        str(path.relative_to(folder)): (path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in folder.rglob("*")
        if path.is_file()
    }
    assert {file.path: (file.size, file.sha256) for file in files} == on_disk
    assert {"MLmodel", among} <= set(on_disk)
    total = sum(file.size for file in files)
    assert told[-1] == (total, total)
    assert counted == [("resolve", "ok"), ("fetch", "ok")]


@pytest.mark.parametrize(
    ("kind", "said", "part", "act"),
    [
        ("missing", "answered 404 for ", "model.skops", meddling.status(404)),
        ("missing", "lists no files", "artifacts?path=", meddling.status(200, "application/json", b"{}")),
        ("truncated", "bytes, the registry lists", "model.skops", meddling.shorten),
        ("truncated", "broke off", "model.skops", meddling.break_off),
        ("server_error", "500", "requirements.txt", meddling.status(500)),
        ("auth", "401", "model.skops", meddling.status(401)),
        ("timeout", "no byte came for 1 s", "model.skops", meddling.silence),
        ("timeout", "no byte came for 1 s", "model.skops", meddling.stall),
        ("timeout", "not here after 3 s", "model.skops", meddling.drip),
        ("server_error", "500", "get-download-uri", meddling.status(500)),
        ("absent", "check the name", "get-download-uri", meddling.instead("version=1", "version=99")),
    ],
)
async def test_what_cannot_be_had_whole_is_not_had(
    meddler: Meddler, tmp_path: Path, folder: Path, kind: str, said: str, part: str, act: Act
) -> None:
    meddler.meddle(part, act)
    options = {"fetch_idle_timeout": 1, "fetch_timeout": 3}
    async with asking(tmp_path / "scratch", meddler.uri, **options) as (registries, counted):
        version = await named(registries)
        with pytest.raises(FetchError) as caught:
            await registries.fetch(version, folder, lambda size, total: None)
        assert (caught.value.kind, said in str(caught.value)) == (kind, True), str(caught.value)
        assert counted[-1] == ("fetch", kind)
        assert len(clients()) == 1
        meddler.behave()
        assert await named(registries) == version


async def test_the_registry_can_be_asked_while_a_version_is_fetched(
    meddler: Meddler, tmp_path: Path, folder: Path
) -> None:
    """And whoever gives up on the fetch leaves nothing of it running."""
    meddler.meddle("model.skops", meddling.silence)
    async with asking(tmp_path / "scratch", meddler.uri) as (registries, _):
        version = await named(registries)
        before = clients()
        fetching = asyncio.ensure_future(registries.fetch(version, folder, lambda size, total: None))
        while not any("model.skops" in asked.path for asked in meddler.asked):
            await asyncio.sleep(0.01)
        assert len(clients()) == 2
        assert await named(registries) == version
        fetching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fetching
        assert clients() == before
        meddler.behave()


async def test_a_process_that_is_killed_while_it_fetches_is_told_as_that(
    meddler: Meddler, tmp_path: Path, folder: Path
) -> None:
    meddler.meddle("model.skops", meddling.silence)
    async with asking(tmp_path / "scratch", meddler.uri) as (registries, _):
        version = await named(registries)
        before = clients()
        fetching = asyncio.ensure_future(registries.fetch(version, folder, lambda size, total: None))
        while not any("model.skops" in asked.path for asked in meddler.asked):
            await asyncio.sleep(0.01)
        (fetcher,) = set(clients()) - set(before)
        os.kill(fetcher, signal.SIGKILL)
        with pytest.raises(FetchError, match="killed by SIGKILL"):
            await fetching
        meddler.behave()


async def test_it_ends_with_everything_at_once(meddler: Meddler, tmp_path: Path, folder: Path) -> None:
    """`asking` sees to it that closing takes no time and leaves nothing."""
    meddler.meddle("model.skops", meddling.silence)
    async with asking(tmp_path / "scratch", meddler.uri) as (registries, _):
        version = await named(registries)
        fetching = asyncio.ensure_future(registries.fetch(version, folder, lambda size, total: None))
        while not any("model.skops" in asked.path for asked in meddler.asked):
            await asyncio.sleep(0.01)
        meddler.behave()
    with pytest.raises(FetchError):
        await fetching


@pytest.mark.needs("root", "mount")
async def test_a_disk_that_is_too_small_is_told_before_it_is_full(
    newest: Shop, tmp_path: Path, folder: Path
) -> None:
    """A real one of 1 MiB, for a version of 3 MB."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], check=True)
    try:
        async with asking(tmp_path / "scratch", newest.uri, candidates=["3"]) as (registries, _):
            with pytest.raises(FetchError, match="are free in .*; make room") as caught:
                await fetched(registries, folder)
        assert caught.value.kind == "disk_full"
        assert list(folder.iterdir()) == []
    finally:
        subprocess.run(["umount", str(folder)], check=True)


async def test_a_disk_that_fills_up_meanwhile_is_told_too(newest: Shop, tmp_path: Path, folder: Path) -> None:
    """The limit of a file's size is a disk that is full for this process alone."""
    shutil.rmtree(folder)
    async with asking(tmp_path / "scratch", newest.uri, candidates=["3"]) as (registries, _):
        with pytest.raises(FetchError) as caught:
            await fetched(registries, folder)
    assert caught.value.kind in ("missing", "disk")
