"""What acts: a check now, a reload of a probe, a reload of the configuration."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from mlopsd.config.errors import ConfigIssue, ConfigurationError
from mlopsd.probe import Finding, ProbeError, Reading, ReloadRefused, Status
from mlopsd.web.api import actions
from tests.web.fakes import FakeWatch, House, until

SHUT = Reading(findings=[Finding("door", Status.HEALTHY, "the door is shut")])
KEY = {"X-API-Key": "sesame-0123456789"}


@asynccontextmanager
async def door(**api: Any) -> AsyncIterator[tuple[House, FakeWatch, aiohttp.ClientSession]]:
    """A house with a door, and a client that has the key."""
    house = House(api=api)
    house.let_in("sesame-0123456789")
    watch = house.watch("door", SHUT)
    async with house.on_tcp() as client:
        client.headers.update(KEY)
        yield house, watch, client


async def ask(client: aiohttp.ClientSession, path: str) -> tuple[int, Any]:
    async with client.post(path) as response:
        return response.status, await response.json(content_type=None)


async def test_a_check_is_run_now_and_answered_with_the_reading() -> None:
    async with door() as (_, watch, client):
        code, reading = await ask(client, "/health/door/check")
    assert code == 200
    assert watch.checks == 1
    assert reading["raw_count"] == 2


async def test_a_check_of_an_unhealthy_probe_went_well_itself() -> None:
    house = House()
    house.let_in("sesame-0123456789")
    house.watch("door", Reading(findings=[Finding("door", Status.UNHEALTHY, "gone")]))
    async with house.on_tcp() as client, client.post("/health/door/check", headers=KEY) as response:
        assert response.status == 200
        assert (await response.json())["status"] == "unhealthy"


async def test_a_check_that_outlives_the_request_is_504_and_goes_on() -> None:
    async with door(request_timeout=0.05) as (_, watch, client):
        watch.hold = asyncio.Event()
        code, problem = await ask(client, "/health/door/check")
    assert code == 504
    assert "request_timeout" in problem["detail"]


@pytest.mark.parametrize("path", ["/health/window/check", "/health/window/reload"])
async def test_acting_on_an_unknown_probe_is_404(path: str) -> None:
    async with door() as (_, _watch, client):
        code, problem = await ask(client, path)
    assert code == 404
    assert "there is 'door'" in problem["detail"]


async def test_a_probe_that_is_on_the_board_but_has_no_watch_yet_is_503() -> None:
    async with door() as (house, _, client):
        house.watches.clear()
        async with client.post("/health/door/check") as response:
            assert response.status == 503
            assert "Retry-After" in response.headers


async def test_a_reload_is_accepted_and_links_to_its_state() -> None:
    async with door() as (_, watch, client), client.post("/health/door/reload") as response:
        assert response.status == 202
        assert response.headers["Location"] == "/health/door"
        answer = await response.json()
    assert answer == {
        "probe": "door",
        "state": "running",
        "started_at": "2026-01-02T03:04:05.000Z",
        "dry_run": False,
    }
    assert watch.asked == [(False, False)]


async def test_a_reload_that_ends_well_within_the_wait_is_200_with_its_sentence() -> None:
    async with door() as (_, watch, client):
        asking = asyncio.create_task(ask(client, "/health/door/reload?wait=20s"), name="ask")
        await until(lambda: watch.reload is not None)
        watch.end("version 7 serves")
        code, answer = await asking
    assert (code, answer["state"], answer["detail"]) == (200, "done", "version 7 serves")


class Wordless(Exception):
    def __str__(self) -> str:
        raise ValueError("no words")


@pytest.mark.parametrize(
    ("error", "output"),
    [
        (ReloadRefused("version 7 has accuracy 0.5, 0.9 is needed"), "refused: version 7 has accuracy 0.5"),
        (ProbeError("the registry does not answer"), "failed: the registry does not answer"),
        (KeyError(), "failed: KeyError"),
        (Wordless(), "failed: Wordless: (no message: ValueError)"),
        (TimeoutError(), "failed: it exceeded the probe's timeout"),
    ],
)
async def test_a_reload_that_does_not_end_well_is_409_with_the_reason(error: Exception, output: str) -> None:
    async with door() as (_, watch, client):
        asking = asyncio.create_task(ask(client, "/health/door/reload?wait=20"), name="ask")
        await until(lambda: watch.reload is not None)
        watch.end(error)
        code, problem = await asking
    assert code == 409
    assert output in problem["detail"]


async def test_a_second_reload_is_409_while_one_runs() -> None:
    async with door() as (_, watch, client):
        await ask(client, "/health/door/reload")
        code, problem = await ask(client, "/health/door/reload")
    assert code == 409
    assert "a reload of 'door' is running" in problem["detail"]
    assert len(watch.asked) == 1


async def test_a_probe_that_cannot_reload_is_405_with_nothing_allowed() -> None:
    house = House()
    house.let_in("sesame-0123456789")
    house.watch("door", SHUT, reloads=False)
    async with house.on_tcp() as client, client.post("/health/door/reload", headers=KEY) as response:
        assert response.status == 405
        assert response.headers["Allow"] == ""
        assert "/health/door/check" in (await response.json())["detail"]


async def test_a_wait_longer_than_the_request_may_take_is_answered_as_still_running(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert actions.MOST_OF < 1
    monkeypatch.setattr(actions, "MOST_OF", 0.01)
    async with door() as (_, _watch, client):
        code, answer = await ask(client, "/health/door/reload?wait=1h")
    assert (code, answer["state"]) == (202, "running")


async def test_a_dry_run_waits_for_what_it_has_to_say() -> None:
    async with door() as (_, watch, client):
        asking = asyncio.create_task(ask(client, "/health/door/reload?dry_run"), name="ask")
        await until(lambda: watch.reload is not None)
        await asyncio.sleep(0.05)
        assert not asking.done()
        watch.end("would go from 6 to 7")
        code, answer = await asking
    assert (code, answer["dry_run"], answer["detail"]) == (200, True, "would go from 6 to 7")
    assert watch.asked == [(True, False)]


async def test_force_is_passed_on_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with door() as (_, watch, client):
        await ask(client, "/health/door/reload?force=true&dry_run=no")
    assert watch.asked == [(False, True)]
    assert [record.levelno for record in caplog.records if record.message == "reload forced"] == [
        logging.WARNING
    ]


@pytest.mark.parametrize(
    ("query", "output"),
    [
        ("dryrun=true", "unknown parameter 'dryrun'; did you mean 'dry_run'?"),
        ("dry_run=perhaps", "dry_run='perhaps' is neither true nor false; write one of them"),
        ("wait=soon", "wait='soon' is not a duration; write seconds or text like"),
        ("wait=-1", "wait='-1' is not a duration"),
        ("force=1&force=0", "the parameter 'force' occurs twice; give it once"),
    ],
)
async def test_a_query_that_cannot_be_read_does_nothing(query: str, output: str) -> None:
    async with door() as (_, watch, client):
        code, problem = await ask(client, f"/health/door/reload?{query}")
    assert code == 400
    assert output in problem["detail"]
    assert watch.asked == []


@pytest.mark.parametrize("path", ["/health/door/check?now=1", "/reload?dry_run=true"])
async def test_a_parameter_that_nothing_would_heed_is_refused(path: str) -> None:
    async with door() as (_, watch, client):
        code, _ = await ask(client, path)
    assert code == 400
    assert watch.checks == 0


async def test_the_configuration_is_reloaded_and_what_changed_is_reported() -> None:
    async with door() as (house, _, client):

        async def reload() -> Sequence[str]:
            return ["probe 'gpu' was added"]

        house.reloading = reload
        assert await ask(client, "/reload") == (200, {"changes": ["probe 'gpu' was added"]})


async def test_a_bad_configuration_is_409_with_each_mistake() -> None:
    async with door() as (house, _, client):

        async def reload() -> Sequence[str]:
            raise ConfigurationError(
                [ConfigIssue("api.port", "must be at most 65535", "99999"), ConfigIssue("x", "no")]
            )

        house.reloading = reload
        code, problem = await ask(client, "/reload")
    assert code == 409
    assert problem["mistakes"] == ["api.port = 99999: must be at most 65535", "x: no"]
    assert problem["detail"] == "\n".join(problem["mistakes"])


async def test_the_reload_of_the_configuration_is_not_cut_off_in_the_middle() -> None:
    async with door(request_timeout=0.01) as (house, _, client):

        async def reload() -> Sequence[str]:
            await asyncio.sleep(0.05)
            return ["all of it"]

        house.reloading = reload
        assert (await ask(client, "/reload"))[0] == 200
