"""The doors open and change all together or not at all."""

from pathlib import Path

import aiohttp
import pytest

from mlopsd.config.schema import Settings
from mlopsd.web.server.listener import Listener, ListenError
from mlopsd.web.server.server import HttpServer
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
