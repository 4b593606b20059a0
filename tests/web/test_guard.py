"""The path of the Unix socket, and whoever else may write in its folder."""

import contextlib
import errno
import logging
import os
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from mlopsd.config.schema import Settings
from mlopsd.web.server.listener import Accepting
from mlopsd.web.server.server import HttpServer
from mlopsd.web.server.socket_guard import SocketGuard
from tests.web.fakes import House


class Guarded:
    """Open doors, and the guard of their socket at *path*."""

    def __init__(self, doors: HttpServer, house: House, path: Path) -> None:
        self.doors = doors
        self.path = path
        self.house = house
        self.guard = SocketGuard(doors, house.parts)

    async def answers(self) -> bool:
        """Whether the daemon is whoever answers at the path."""
        connector = aiohttp.UnixConnector(str(self.path))
        try:
            async with (
                aiohttp.ClientSession("http://mlopsd", connector=connector) as client,
                client.get("/livez", timeout=aiohttp.ClientTimeout(5)) as answer,
            ):
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False


@asynccontextmanager
async def guarded(folder: Path) -> AsyncIterator[Guarded]:
    path = folder / "run/s"
    house = House()
    doors = HttpServer(house.parts)
    await doors.open(Settings(api={"port": 0}), path)  # type: ignore[arg-type]  # as a file has it
    try:
        yield Guarded(doors, house, path)
    finally:
        await doors.close(0)


def remove(path: Path) -> None:
    path.unlink()


def remove_folder(path: Path) -> None:
    shutil.rmtree(path.parent)


def replace_folder(path: Path) -> None:
    path.parent.rename(path.parent.with_name("moved"))
    path.parent.mkdir()


def leave_a_dead_socket(path: Path) -> None:
    path.unlink()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))


@pytest.mark.parametrize("harm", [remove, remove_folder, replace_folder, leave_a_dead_socket])
async def test_a_path_that_leads_elsewhere_is_reported_once_and_bound_again(
    harm: object, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    async with guarded(tmp_path) as its:
        await its.guard.check()
        assert not caplog.records
        harm(its.path)  # type: ignore[operator]
        for _ in range(3):
            await its.guard.check()
        assert await its.answers()
        assert its.house.info.socket_error is None
    assert [record.getMessage() for record in caplog.records] == [
        "Unix socket replaced",
        "Unix socket bound again",
    ]
    assert caplog.records[0].__dict__["path"] == str(its.path)
    assert its.house.metrics.errors == ["socket"]
    assert not its.path.exists()


async def test_whoever_listens_in_the_daemons_place_is_removed_from_it(tmp_path: Path) -> None:
    async with guarded(tmp_path) as its:
        its.path.unlink()
        with socket.socket(socket.AF_UNIX) as impostor:
            impostor.bind(str(its.path))
            impostor.listen()
            await its.guard.check()
            assert await its.answers()


async def test_a_connection_lives_on_while_the_path_is_bound_again(tmp_path: Path) -> None:
    async with guarded(tmp_path) as its:
        connector = aiohttp.UnixConnector(str(its.path), limit=1)
        async with aiohttp.ClientSession("http://mlopsd", connector=connector) as client:
            assert (await client.get("/livez")).status == 200
            its.path.unlink()
            await its.guard.check()
            its.path.unlink()  # so that only the connection that there is can be used
            assert (await client.get("/livez")).status == 200


async def test_what_is_no_socket_stays_and_is_reported_until_it_is_gone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with guarded(tmp_path) as its:
        its.path.unlink()
        its.path.write_text("a file of somebody")
        for _ in range(5):
            await its.guard.check()
        assert its.house.info.socket_error is not None
        assert "the file there is not a socket; remove it" in its.house.info.socket_error
        assert its.path.read_text() == "a file of somebody"
        assert its.house.metrics.errors == ["socket"]
        assert [record.getMessage() for record in caplog.records].count("Unix socket lost") == 1
        its.path.unlink()
        await its.guard.check()
        assert its.house.info.socket_error is None
        assert await its.answers()


def sockets() -> list[str]:
    """The listening descriptors of this process at a path, in order."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(int(link.name))) as one:
            if one.family == socket.AF_UNIX and one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                found.append(str(link.readlink()))
    return sorted(found)


@pytest.mark.parametrize("step", ["dup", "listen"])
async def test_a_socket_that_cannot_be_served_once_is_bound_at_the_next_check(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with guarded(tmp_path) as its:
        lacking = [True]
        real = getattr(Accepting, step)

        def fail_once(listening: Accepting, *arguments: int) -> object:
            is_of_asyncio = step == "dup" or arguments == (1,)
            if lacking and is_of_asyncio:
                lacking.pop()
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            return real(listening, *arguments)

        monkeypatch.setattr(Accepting, step, fail_once)
        its.path.unlink()
        before = sockets()
        await its.guard.check()
        assert its.house.info.socket_error is not None
        assert "Too many open files" in its.house.info.socket_error
        assert not its.path.exists(), "nobody would answer there"
        assert sockets() == before, "the new socket is closed, and the old one is not"
        for _ in range(2):
            await its.guard.check()
            assert its.house.info.socket_error is None
            assert await its.answers()
        assert len(sockets()) == len(before)


async def test_a_socket_that_is_in_place_and_not_served_is_bound_again(tmp_path: Path) -> None:
    async with guarded(tmp_path) as its:
        for server in its.doors._sites["socket"]._servers:
            server.close()
        assert its.path.is_socket()
        await its.guard.check()
        assert await its.answers()


async def test_at_the_end_a_socket_of_somebody_else_stays(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        async with guarded(tmp_path) as its:
            its.path.unlink()
            other.bind(str(its.path))
        assert its.path.is_socket()


async def test_a_changed_configuration_and_a_bound_path_come_to_the_same_door(tmp_path: Path) -> None:
    async with guarded(tmp_path) as its:
        its.path.unlink()
        await its.guard.check()
        await its.doors.change(Settings(api={"port": 0, "max_connections": 8}))  # type: ignore[arg-type]
        its.path.unlink()
        await its.guard.check()
        assert await its.answers()
