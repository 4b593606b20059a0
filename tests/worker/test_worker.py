"""A worker does one thing at a time: checks, reloads and closing take turns."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from mlopsd.probe import Probe, ProbeError, ReloadRefused, Status
from tests import fakes
from tests.worker.watching import lose_patience, reached, watching


async def test_one_check_is_in_flight_and_the_second_caller_joins_it(
    troubled: type[Probe[Any]], tmp_path: Path, account: fakes.Account
) -> None:
    async with watching(troubled, "process", tmp_path, account) as watch:
        first, second = await asyncio.gather(watch.check(), watch.check())
    assert first is second
    assert len(account.checks) == 1


async def test_a_caller_that_goes_away_does_not_end_the_check(
    troubled: type[Probe[Any]], tmp_path: Path, account: fakes.Account
) -> None:
    async with watching(troubled, "process", tmp_path, account) as watch:
        caller = asyncio.create_task(watch.check(), name="caller")
        await asyncio.sleep(0)
        caller.cancel()
        entry = await watch.check()
    assert entry.status is Status.HEALTHY
    assert len(account.checks) == 1


async def test_a_reload_is_refused_forced_and_not_done_twice(
    troubled: type[Probe[Any]], tmp_path: Path, account: fakes.Account, caplog: pytest.LogCaptureFixture
) -> None:
    for isolation in ("thread", "process"):
        async with watching(troubled, isolation, tmp_path, account) as watch:
            assert watch.can_reload
            with pytest.raises(ReloadRefused, match="does not want to"):
                await watch.start_reload(dry_run=False, force=False).done
            (reported,) = [record for record in caplog.records if record.message == "reload refused"]
            assert (reported.__dict__["reason"], reported.exc_info) == ("it does not want to", None)
            caplog.clear()
            assert await watch.start_reload(dry_run=True, force=True).done == "would"
            assert await watch.start_reload(dry_run=False, force=True).done == "did"


@pytest.mark.parametrize("isolation", ["thread", "process"])
async def test_a_reload_waits_for_the_check_in_flight(
    troubled: type[Probe[Any]], isolation: str, tmp_path: Path, account: fakes.Account
) -> None:
    gate, seen = tmp_path / "gate", tmp_path / "gate.reached"
    table: dict[str, Any] = {"trouble": "looks_slowly", "path": str(gate), "well_first": True}
    async with watching(troubled, isolation, tmp_path, account, **table) as watch:
        assert (await watch.check()).reading.facts["checks"] == 1
        check = asyncio.create_task(watch.check(), name="check")
        await reached(seen)
        reload = watch.start_reload(dry_run=False, force=True)
        await asyncio.sleep(0.1)
        assert not reload.done.done()
        gate.touch()
        assert await reload.done == "did"
        assert (await check).reading.facts["checks"] == 2
        seen.unlink()
        assert (await watch.check()).reading.facts["checks"] == 3


@pytest.mark.parametrize("isolation", ["thread", "process"])
async def test_a_check_waits_for_the_reload_that_runs(
    troubled: type[Probe[Any]], isolation: str, tmp_path: Path, account: fakes.Account
) -> None:
    gate = tmp_path / "gate"
    async with watching(
        troubled, isolation, tmp_path, account, trouble="reloads_slowly", path=str(gate)
    ) as watch:
        reload = watch.start_reload(dry_run=False, force=True)
        await reached(tmp_path / "gate.reached")
        check = asyncio.create_task(watch.check(), name="check")
        await asyncio.sleep(0.1)
        assert not check.done()
        gate.touch()
        assert await reload.done == "did"
        assert (await check).reading.facts["checks"] == 1
        assert (await watch.check()).reading.facts["checks"] == 2


@pytest.mark.parametrize("isolation", ["thread", "process"])
async def test_closing_with_a_check_in_flight_is_quiet_and_quick(
    troubled: type[Probe[Any]],
    isolation: str,
    tmp_path: Path,
    account: fakes.Account,
    caplog: pytest.LogCaptureFixture,
) -> None:
    gate = tmp_path / "gate"
    async with watching(
        troubled, isolation, tmp_path, account, trouble="looks_slowly", path=str(gate)
    ) as watch:
        check = asyncio.create_task(watch.check(), name="check")
        await reached(tmp_path / "gate.reached")
        await watch.close()  # the check goes on until the gate is open
        gate.touch()
        for given_up in (check, watch.check(), watch.start_reload(dry_run=False, force=True).done):
            with pytest.raises(ProbeError, match="no longer watched"):
                await given_up
    assert [record.message for record in caplog.records] == ["reload refused"]


@pytest.mark.parametrize(
    ("isolation", "trouble", "sentence"),
    [
        (
            "thread",
            "looks_slowly",
            "its last call has not returned; a probe that can hang belongs in a process",
        ),
        ("process", "ignores_sigterm", "is being ended; try again in some seconds"),
    ],
)
async def test_a_probe_that_hangs_is_not_reloaded_and_says_why(
    troubled: type[Probe[Any]],
    isolation: str,
    trouble: str,
    sentence: str,
    tmp_path: Path,
    account: fakes.Account,
) -> None:
    gate = tmp_path / "gate"
    table: dict[str, Any] = {"trouble": trouble, "path": str(gate), "well_first": True}
    async with watching(troubled, isolation, tmp_path, account, **table) as watch:
        await watch.check()
        lose_patience(watch)
        await watch.check()
        threads = threading.active_count()
        for _ in range(3):
            with pytest.raises(ReloadRefused, match=f"it cannot be asked: .*{sentence}"):
                await watch.start_reload(dry_run=False, force=True).done
        assert threading.active_count() <= threads
        gate.touch()


async def test_a_reload_that_takes_too_long_is_given_up(
    troubled: type[Probe[Any]], tmp_path: Path, account: fakes.Account, caplog: pytest.LogCaptureFixture
) -> None:
    table: dict[str, Any] = {"trouble": "reloads_slowly", "path": str(tmp_path / "gate")}
    async with watching(troubled, "process", tmp_path, account, **table) as watch:
        await watch.check()
        lose_patience(watch)
        with pytest.raises(TimeoutError, match=r"no answer within 0\.3 s"):
            await watch.start_reload(dry_run=False, force=True).done
    assert [(record.message, record.exc_info) for record in caplog.records] == [("reload failed", None)]
