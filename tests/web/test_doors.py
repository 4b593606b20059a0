"""The doors open and change all together or not at all."""

import asyncio
import errno
from pathlib import Path

import aiohttp
import pytest

from mlopsd.config.schema import Settings
from mlopsd.web.server.listener import Listener, ListenError
from mlopsd.web.server.server import HttpServer
from mlopsd.web.server.site import Site
from tests.running import free_port
from tests.web.fakes import House


def settings(api: int, metrics: int | None) -> Settings:
    return Settings(api={"port": api}, metrics={"port": metrics})  # type: ignore[arg-type]  # as a file has it


async def test_where_one_cannot_open_none_is(tmp_path: Path) -> None:
    port, holder, socket = free_port(), Listener.tcp("127.0.0.1", 0), tmp_path / "mlopsd.sock"
    doors = HttpServer(House().parts)
    with pytest.raises(ListenError, match=str(holder.port)):
        await doors.open(settings(port, holder.port), socket)
    holder.close()
    assert doors.places == {}
    assert not socket.exists()
    Listener.tcp("127.0.0.1", port).close()


async def test_a_change_of_which_a_part_cannot_be_changes_nothing(tmp_path: Path) -> None:
    first, second, holder = free_port(), free_port(), Listener.tcp("127.0.0.1", 0)
    doors = HttpServer(House().parts)
    await doors.open(settings(first, None), tmp_path / "mlopsd.sock")
    before = doors.places
    with pytest.raises(ListenError, match=str(holder.port)):
        await doors.change(settings(second, holder.port))
    assert doors.places == before
    Listener.tcp("127.0.0.1", second).close()
    async with aiohttp.ClientSession() as client, client.get(f"http://127.0.0.1:{first}/livez") as response:
        assert response.status == 200
    assert await doors.change(settings(first, None)) == []
    holder.close()
    await doors.close(0)


async def test_a_change_that_cannot_be_served_changes_nothing_and_can_be_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = free_port(), free_port(), free_port()
    doors = HttpServer(House().parts)
    await doors.open(settings(first, None), tmp_path / "mlopsd.sock")
    before, start = doors.places, Site.start

    async def start_one(site: Site) -> None:
        if site.listener.name.endswith(str(third)):
            raise OSError(errno.EMFILE, "no descriptor is left")
        await start(site)

    with monkeypatch.context() as broken:
        broken.setattr(Site, "start", start_one)
        with pytest.raises(OSError, match="no descriptor"):
            await doors.change(settings(second, third))
    assert doors.places == before
    for port in (second, third):
        Listener.tcp("127.0.0.1", port).close()
    assert len(await doors.change(settings(second, third))) == 2
    assert doors.places["api"].endswith(str(second))
    await doors.close(0)


async def test_a_moved_address_cuts_no_connection_on_which_a_request_may_be_on_its_way(
    tmp_path: Path,
) -> None:
    """The old connection answers once more, and says that it closes; only then it ends."""
    first, second, third = free_port(), free_port(), free_port()
    house = House()
    doors = HttpServer(house.parts)
    await doors.open(settings(first, third), tmp_path / "mlopsd.sock")
    async with aiohttp.ClientSession() as kept:
        urls = [f"http://127.0.0.1:{first}/livez", f"http://127.0.0.1:{third}/metrics"]
        for url in urls:
            async with kept.get(url) as answer:
                assert (answer.status, "Connection" in answer.headers) == (200, False)
        await doors.change(settings(second, None))
        for _ in range(20):
            await asyncio.sleep(0)
        for url in urls:
            async with kept.get(url) as answer:
                assert (answer.status, answer.headers["Connection"]) == (200, "close")
            with pytest.raises(aiohttp.ClientConnectorError):
                await kept.get(url)
        async with kept.get(f"http://127.0.0.1:{second}/livez") as answer:
            assert answer.status == 200
    await doors.close(0)


async def test_a_stop_does_not_wait_for_the_idle_connections_of_an_old_address(tmp_path: Path) -> None:
    first, second = free_port(), free_port()
    doors = HttpServer(House().parts)
    await doors.open(settings(first, None), tmp_path / "mlopsd.sock")
    async with aiohttp.ClientSession() as kept:
        async with kept.get(f"http://127.0.0.1:{first}/livez") as answer:
            assert answer.status == 200
        await doors.change(settings(second, None))
        async with asyncio.timeout(30):  # an idle connection would stay for 75 s
            await doors.close(10)
