"""A probe that holds the event loop is named, with the place; nobody else is."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from mlopsd.entry import Entry
from mlopsd.probe import Finding, HttpRequest, Probe, Status
from mlopsd.watch import Watch
from mlopsd.worker.loop_use import HELD_SECONDS
from tests import fakes
from tests.running import GIVE_UP
from tests.worker.watching import watching

HELD = HELD_SECONDS + 0.2


def hold_of(entry: Entry) -> Finding | None:
    return next((finding for finding in entry.reading.findings if finding.name == "event_loop"), None)


async def check_blocking(watch: Watch, how: str) -> Entry:
    """Check once, and let the reload, the route or nothing block before the check that is returned."""
    if how in ("check", "task"):
        return await watch.check()
    await watch.check()
    if how == "reload":
        await watch.start_reload(dry_run=False, force=False).done
    else:
        (route,) = watch.routes or ()
        await route.handler(HttpRequest())
    return await watch.check()


@pytest.mark.parametrize(("how", "call"), [("check", "check"), ("reload", "reload"), ("route", "/sleep")])
async def test_a_step_that_holds_the_loop_is_a_finding_with_its_place(
    how: str, call: str, strange_path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import blocking

    async with watching(
        blocking.Blocking, "loop", tmp_path, fakes.Account(), patience=GIVE_UP, blocks=how
    ) as watch:
        entry = await check_blocking(watch, how)
        hold = hold_of(entry)
        assert hold is not None
        assert entry.reading.status is hold.status is Status.DEGRADED
        assert hold.summary.startswith(f"its {call} held the event loop for ")
        assert "a coroutine must not block: use def check" in hold.summary
        assert isinstance(hold.observed, float)
        assert hold.observed >= HELD_SECONDS
        lines = [record for record in caplog.records if record.getMessage() == "event loop held"]
        assert [(line.probe, line.call) for line in lines] == [("door", call)]  # type: ignore[attr-defined]


async def test_the_place_is_that_of_the_authors_frame(strange_path: Path, tmp_path: Path) -> None:
    import blocking

    place = "strange/blocking.py:45 in sleep_in"
    async with watching(
        blocking.Blocking, "loop", tmp_path, fakes.Account(), patience=GIVE_UP, blocks="task", seconds=3
    ) as watch:
        hold = hold_of(await watch.check())  # a task of its own, which only the sampler sees
        assert hold is not None
        assert place in hold.summary


async def test_a_prediction_that_holds_the_loop_shows_in_the_next_reading(
    strange_path: Path, tmp_path: Path
) -> None:
    import blocking

    async with watching(
        blocking.BlockingPredictor, "loop", tmp_path, fakes.Account(), patience=GIVE_UP, model="door"
    ) as watch:
        assert hold_of(await watch.check()) is None
        assert watch.predictor is not None
        await watch.predictor.prediction_route.handler(HttpRequest(body=b"1"))
        hold = hold_of(await watch.check())
        assert hold is not None
        assert hold.summary.startswith("its /invocations held the event loop for ")
        assert hold_of(await watch.check()) is None


async def test_the_lag_that_others_cause_is_nobodys_finding(
    async_troubled: type[Probe[Any]], strange_path: Path, tmp_path: Path
) -> None:
    import blocking

    async with watching(
        blocking.Blocking, "loop", tmp_path, fakes.Account(), patience=GIVE_UP, blocks="nothing"
    ) as watch:
        checking = asyncio.create_task(watch.check())
        await asyncio.sleep(0)
        for _ in range(3):
            time.sleep(HELD)  # noqa: ASYNC251  # that is what is tested
            await asyncio.sleep(0)
        assert hold_of(await checking) is None
