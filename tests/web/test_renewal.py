"""API keys that come and go in their file, with no reload."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import aiohttp
import pytest

from mlopsd.config.load import load, read_keys
from mlopsd.web.server import renewal
from mlopsd.web.server.renewal import KeyRenewal
from tests.keys import line_of
from tests.running import CALM_SYSTEM, Running
from tests.web.fakes import House, until

FIRST, SECOND = "first-0123456789", "second-0123456789"


@dataclass
class Renewed:
    """A house whose keys are in *file*."""

    house: House
    client: aiohttp.ClientSession
    file: Path

    async def status(self, key: str) -> int:
        async with self.client.post("/reload", headers={"X-API-Key": key}) as answer:
            return answer.status

    async def until_status(self, key: str, wanted: int) -> None:
        while await self.status(key) != wanted:
            await asyncio.sleep(0.01)

    def names(self) -> list[str]:
        return [key.name for key in self.house.parts.loaded.api_keys]


@asynccontextmanager
async def renewed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *lines: str) -> AsyncIterator[Renewed]:
    monkeypatch.setattr(renewal, "PAUSE", 0.01)
    file = tmp_path / "keys"
    file.write_text("\n".join(lines))
    config = tmp_path / "config.toml"
    config.write_text(f'[api]\napi_keys_file = "{file}"\napi_keys = ["{line_of("t" * 16, "table")}"]\n')
    house = House()
    house.parts.loaded = load(config, {}, {})
    task = asyncio.create_task(KeyRenewal(house.parts).run())
    async with house.on_tcp() as client:
        yield Renewed(house, client, file)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_a_key_that_is_removed_ends_and_one_that_is_added_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with renewed(tmp_path, monkeypatch, line_of(FIRST, "first")) as house:
        assert (await house.status(FIRST), await house.status(SECOND)) == (200, 401)
        house.file.write_text(line_of(SECOND, "second"))
        await house.until_status(FIRST, 401)
        assert await house.status(SECOND) == 200
        assert await house.status("t" * 16) == 200


@pytest.mark.parametrize("remove", [Path.unlink, lambda path: path.write_text("")])
async def test_a_file_that_is_gone_or_empty_holds_no_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, remove: Callable[[Path], object]
) -> None:
    async with renewed(tmp_path, monkeypatch, line_of(FIRST, "first")) as house:
        remove(house.file)
        await house.until_status(FIRST, 401)
        assert house.names() == ["table"]


async def test_of_a_file_with_a_broken_line_the_others_count_and_the_log_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with renewed(tmp_path, monkeypatch, line_of(FIRST, "first")) as house:
        house.file.write_text(f"no-key-at-all-0123\n{line_of(SECOND, 'second')}\n")
        await house.until_status(SECOND, 200)
        assert await house.status(FIRST) == 401
    (record,) = [record for record in caplog.records if record.getMessage() == "API keys not read"]
    assert record.__dict__["reason"].startswith("line 1: not the line of an API key")
    assert "no-key-at-all" not in caplog.text
    assert house.house.metrics.errors == ["keys"]


@pytest.mark.timeout(60)
async def test_a_file_that_cannot_be_read_keeps_its_last_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with renewed(tmp_path, monkeypatch, line_of(FIRST, "first")) as house:
        house.file.unlink()
        os.mkfifo(house.file)
        await until(lambda: house.house.metrics.errors)
        assert await house.status(FIRST) == 200


async def test_a_file_that_is_being_written_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each read finds another half of it: nobody who has a key is refused meanwhile."""
    async with renewed(tmp_path, monkeypatch, line_of(FIRST, "first")) as house:
        halves = iter(range(20))

        def half(api: object) -> object:
            at = next(halves, None)
            return read_keys(api) if at is None else ((), [f"line {at}: half"])  # type: ignore[arg-type]

        monkeypatch.setattr(renewal, "read_keys", half)
        while next(halves, None) is not None:
            assert await house.status(FIRST) == 200
        assert house.names() == ["first", "table"]


async def test_a_reload_wins_over_what_was_read_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with renewed(tmp_path, monkeypatch, line_of(FIRST, "first")) as house:
        stale = KeyRenewal(house.house.parts)
        found = stale._read()
        house.house.parts.loaded = replace(house.house.parts.loaded, api_keys=())
        await stale._take(found)
        assert house.names() == []


def test_a_daemon_forgets_a_key_without_a_reload(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"{line_of(FIRST, 'first')}\n{line_of(SECOND, 'second')}\n")
    with Running(tmp_path, f'[api]\napi_keys_file = "{file}"\n{CALM_SYSTEM}') as daemon:
        for key in (FIRST, SECOND):
            assert daemon.ask("POST", "/health/system/check", {"X-API-Key": key}).status == 200
        file.write_text(line_of(SECOND, "second"))
        changed = daemon.logged("API keys changed")
        assert (changed["added"], changed["removed"]) == ([], ["first"])
        for key, code in ((FIRST, 401), (SECOND, 200)):
            assert daemon.ask("POST", "/health/system/check", {"X-API-Key": key}).status == code
        history = daemon.ask("GET", "/health/history", {"X-API-Key": SECOND}).json["events"]
        by = [event["fields"]["by"] for event in history if event["event"] == "request"]
        assert by == [f"key {name} from 127.0.0.1" for name in ("first", "second", "second")]
