"""What a probe does in its place of work costs its own reading and nothing else."""

import asyncio
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from mlopsd import log as logs
from mlopsd.probe import Advice, Probe, Status
from tests import fakes
from tests.running import GIVE_UP
from tests.worker.watching import lose_patience, watching


@pytest.mark.parametrize("isolation", ["thread", "process"])
async def test_a_good_probe_gives_its_reading(
    troubled: type[Probe[Any]], isolation: str, tmp_path: Path, account: fakes.Account
) -> None:
    async with watching(troubled, isolation, tmp_path, account) as watch:
        entry = await watch.check()
    assert entry.status is Status.HEALTHY
    assert entry.reading.findings[0].summary == "the door is shut"
    assert (entry.reading.facts["pid"] == os.getpid()) == (isolation == "thread")


async def test_a_coroutine_gives_its_reading_on_the_loop_and_in_a_process(
    async_troubled: type[Probe[Any]], tmp_path: Path, account: fakes.Account
) -> None:
    for isolation in ("loop", "process"):
        async with watching(async_troubled, isolation, tmp_path, account) as watch:
            assert (await watch.check()).status is Status.HEALTHY


TROUBLES = [
    ("raises", "error", "ZeroDivisionError: one over nought"),
    ("cannot_tell", "cannot_tell", "cannot see the door: no light; bring a lamp"),
    ("cannot_tell_in_a_way_of_its_own", "cannot_tell", "there is no door; build one"),
    ("raises_a_namesake", "error", "ProbeError: of another library"),
    ("nonsense", "nonsense", "check returned str, not a Reading"),
    ("wrong_parts", "error", "TypeError: the findings have 'fine', which is no Finding; write Finding(…)"),
    ("answers_hugely", "nonsense", "facts take"),
    ("sys_exits", "error", "SystemExit: 3"),
    ("is_interrupted", "error", "KeyboardInterrupt"),
    ("is_cancelled", "error", "CancelledError: by itself"),
    ("raises_without_words", "error", "Wordless: (no message: ValueError)"),
]


ASYNC_TROUBLES = [
    ("raises", "error", "ZeroDivisionError: one over nought"),
    ("nonsense", "nonsense", "check returned str, not a Reading"),
    ("sys_exits", "error", "SystemExit: 3"),
    ("is_interrupted", "error", "KeyboardInterrupt"),
    ("is_closed", "error", "GeneratorExit"),
    ("is_cancelled", "error", "CancelledError: by itself"),
    ("cancels_itself", "error", "CancelledError: by itself"),
    ("raises_without_words", "error", "Wordless: (no message: ValueError)"),
]


CASES = [
    *(("troubled", place, *trouble) for place in ("thread", "process") for trouble in TROUBLES),
    *(("async_troubled", place, *trouble) for place in ("loop", "process") for trouble in ASYNC_TROUBLES),
]


@pytest.mark.parametrize(("probe", "isolation", "trouble", "result", "sentence"), CASES)
async def test_a_probe_that_fails_is_unknown_and_says_why(
    request: pytest.FixtureRequest,
    probe: str,
    isolation: str,
    trouble: str,
    result: str,
    sentence: str,
    tmp_path: Path,
    account: fakes.Account,
) -> None:
    async with watching(
        request.getfixturevalue(probe), isolation, tmp_path, account, trouble=trouble
    ) as watch:
        entry = await watch.check()
    assert entry.status is Status.UNKNOWN
    assert sentence in entry.reading.summary
    assert account.checks == [("door", result)]


@pytest.mark.parametrize("isolation", ["thread", "process"])
async def test_the_log_has_the_place_where_a_check_exits(
    troubled: type[Probe[Any]],
    isolation: str,
    tmp_path: Path,
    account: fakes.Account,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with watching(troubled, isolation, tmp_path, account, trouble="sys_exits") as watch:
        await watch.check()
    (record,) = [record for record in caplog.records if record.message == "probe check failed"]
    assert "sys.exit(3)" in logs.Text().format(record) or "SystemExit(3)" in logs.Text().format(record)


@pytest.mark.parametrize("isolation", ["thread", "process"])
async def test_what_lasts_stays_while_its_probe_hangs_and_ends_with_a_known_reading(
    troubled: type[Probe[Any]], isolation: str, tmp_path: Path, account: fakes.Account
) -> None:
    path = tmp_path / "broken"
    table: dict[str, Any] = {"trouble": "breaks_and_hangs", "path": str(path)}
    async with watching(troubled, isolation, tmp_path, account, **table) as watch:
        assert (await watch.check()).status is Status.UNHEALTHY
        lose_patience(watch)
        entries = [await watch.check() for _ in range(4)]
        assert ("door", "timeout") in account.checks
        assert {entry.status for entry in entries} == {Status.UNHEALTHY}
        assert all("; before that: the door is off its hinges" in entry.summary for entry in entries)
        assert {entry.reading.findings[-1].advice for entry in entries} == {Advice.REPLACE_HARDWARE}
        (tmp_path / "broken.mended").touch()
        lose_patience(watch, 20)
        async with asyncio.timeout(60):
            while (entry := await watch.check()).status is not Status.HEALTHY:
                await asyncio.sleep(0.05)
        assert entry.kept == ()


async def test_a_reload_of_a_probe_ends_what_lasts_and_a_rehearsal_does_not(
    troubled: type[Probe[Any]], tmp_path: Path, account: fakes.Account
) -> None:
    async with watching(troubled, "thread", tmp_path, account, trouble="breaks_and_cannot_tell") as watch:
        await watch.check()
        await watch.start_reload(dry_run=True, force=True).done
        assert (await watch.check()).kept != ()
        await watch.start_reload(dry_run=False, force=True).done
        entry = await watch.check()
        assert (entry.kept, [one.name for one in entry.reading.findings]) == ((), ["cannot_tell"])


async def test_a_hung_thread_is_waited_for_and_not_repeated(
    troubled: type[Probe[Any]], tmp_path: Path, account: fakes.Account, monkeypatch: pytest.MonkeyPatch
) -> None:

    gate, calls = threading.Event(), []

    def waits_at_the_gate(self: Any) -> Any:
        calls.append(1)
        gate.wait()
        return self.none()

    monkeypatch.setattr(troubled, "hangs", waits_at_the_gate)
    async with watching(troubled, "thread", tmp_path, account, patience=0.5, trouble="hangs") as watch:
        assert (await watch.check()).reading.summary == "no answer within 0.5 s"
        stuck = await watch.check()
        assert "its last call has not returned" in stuck.reading.summary
        assert account.hanging == {"door": True}
        assert len(calls) == 1
        gate.set()
        async with asyncio.timeout(GIVE_UP):
            while (await watch.check()).status is not Status.HEALTHY:
                await asyncio.sleep(0.01)
        assert account.hanging == {"door": False}


async def test_a_coroutine_that_will_not_be_cancelled_is_waited_for_and_not_repeated(
    async_troubled: type[Probe[Any]], tmp_path: Path, account: fakes.Account
) -> None:
    async with watching(
        async_troubled, "loop", tmp_path, account, patience=0.5, trouble="will_not_be_cancelled"
    ) as watch:
        why = "its last check was cancelled and has not ended; a coroutine must let CancelledError pass"
        assert (await watch.check()).reading.summary == f"no answer within 0.5 s; {why}"
        assert (await watch.check()).reading.summary.startswith(f"cannot be asked: {why}")
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.get_coro().close()
