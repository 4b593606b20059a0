"""What a probe does in its place of work costs its own reading and nothing else."""

import asyncio
import contextlib
import errno
import logging
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import psutil
import pytest

from mlopsd.board import Board, Entry
from mlopsd.probe import Probe, ProbeError, Refused, Status
from mlopsd.watch import Watch
from mlopsd.worker import descent, process, spawned
from mlopsd.worker.spawned import Opening, Spawned
from tests import fakes

Asked = Callable[..., Coroutine[Any, Any, Entry]]


@contextlib.asynccontextmanager
async def watching(
    probe: type[Probe[Any]],
    isolation: Any,
    folder: Path,
    account: fakes.Account,
    *,
    patience: float = 20,
    **table: str,
) -> AsyncIterator[Watch]:
    board = Board()
    configured = fakes.configured(probe, isolation, table, patience=patience)
    watch = fakes.watch(configured, folder, board, account)
    try:
        yield watch
    finally:
        await watch.close()
        board.close()


@pytest.fixture
def account() -> fakes.Account:
    return fakes.Account()


@pytest.fixture
def troubled(strange_path: Path) -> type[Probe[Any]]:
    import troubled

    found: type[Probe[Any]] = troubled.Troubled
    return found


@pytest.fixture
def async_troubled(strange_path: Path) -> type[Probe[Any]]:
    import troubled

    found: type[Probe[Any]] = troubled.AsyncTroubled
    return found


@pytest.fixture(autouse=True)
def nothing_is_left_behind() -> Any:
    """Processes and descriptors are counted before and after each test."""
    me = psutil.Process()
    before = (me.num_fds(), len(me.children(recursive=True)))
    yield
    deadline = time.monotonic() + 5
    while (me.num_fds(), len(me.children(recursive=True))) > before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert (me.num_fds(), len(me.children(recursive=True))) <= before, me.children(recursive=True)


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
    ("nonsense", "nonsense", "check returned str, not a Reading"),
    ("wrong_parts", "nonsense", "findings are not a list of Finding"),
    ("answers_hugely", "nonsense", "facts take"),
    ("sys_exits", "error", "SystemExit: 3"),
]


@pytest.mark.parametrize("isolation", ["thread", "process"])
@pytest.mark.parametrize(("trouble", "result", "sentence"), TROUBLES)
async def test_a_probe_that_fails_is_unknown_and_says_why(
    troubled: type[Probe[Any]],
    isolation: str,
    trouble: str,
    result: str,
    sentence: str,
    tmp_path: Path,
    account: fakes.Account,
) -> None:
    async with watching(troubled, isolation, tmp_path, account, trouble=trouble) as watch:
        entry = await watch.check()
    assert entry.status is Status.UNKNOWN
    assert sentence in entry.reading.summary
    assert account.checks == [("door", result)]


@pytest.mark.parametrize(
    ("trouble", "sentence"),
    [("exits", "ended with exit status 7"), ("segfaults", "was killed by SIGSEGV")],
)
async def test_a_process_that_dies_says_how_and_is_started_again_after_a_pause(
    troubled: type[Probe[Any]], trouble: str, sentence: str, tmp_path: Path, account: fakes.Account
) -> None:
    async with watching(troubled, "process", tmp_path, account, trouble=trouble) as watch:
        first = await watch.check()
        assert sentence in first.reading.summary
        second = await watch.check()
    assert f"died 1 times in a row (last: its process {sentence}); next start in" in second.reading.summary
    assert account.checks == [("door", "died"), ("door", "cannot_tell")]


@pytest.mark.parametrize(
    "trouble", ["hangs", "holds_the_gil", "ignores_sigterm", "prints", "writes_on_the_channel"]
)
async def test_a_process_that_gives_no_answer_costs_one_reading(
    troubled: type[Probe[Any]], trouble: str, tmp_path: Path, account: fakes.Account
) -> None:
    async with watching(troubled, "process", tmp_path, account, patience=0.5, trouble=trouble) as watch:
        entry = await watch.check()
    assert entry.status is Status.UNKNOWN
    assert account.checks[0][1] in {"timeout", "nonsense"}


async def test_a_process_that_cannot_be_started_is_a_reading_and_tried_again(
    troubled: type[Probe[Any]], tmp_path: Path, account: fakes.Account, monkeypatch: pytest.MonkeyPatch
) -> None:

    real = spawned._execute

    async def cannot(*_: Any) -> Any:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(spawned, "_execute", cannot)
    async with watching(troubled, "process", tmp_path, account) as watch:
        summary = (await watch.check()).reading.summary
        assert (
            summary == "cannot start its process: Resource temporarily unavailable; free what the host lacks"
        )
        monkeypatch.setattr(spawned, "_execute", real)
        async with asyncio.timeout(30):
            while (await watch.check()).status is not Status.HEALTHY:
                await asyncio.sleep(0.1)


async def test_the_pause_before_a_start_doubles_up_to_five_minutes(
    troubled: type[Probe[Any]], tmp_path: Path, account: fakes.Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def cannot(*_: Any) -> Spawned:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(process, "spawn", cannot)
    clock = fakes.Clock()
    configured = fakes.configured(troubled, "process", {"trouble": "none"})
    opening = Opening("door", configured.plugin.target, configured.table, tmp_path, logging.INFO)
    worker = process.ProcessWorker(opening, account, account.restarted, logging.getLogger("test"), clock)
    pauses = []
    for _ in range(2000):
        with pytest.raises(ProbeError, match="cannot start"):
            await worker.check()
        with pytest.raises(ProbeError, match="next start in"):
            await worker.check()
        pauses.append(worker.pause)
        clock.now += worker.pause
    assert all(0.8 * 2**n <= pauses[n] <= 1.2 * 2**n for n in range(8))
    assert all(240 <= pause <= 360 for pause in pauses[9:])
    assert len(set(pauses[9:])) > 1, "jitter"


async def test_a_probe_that_hung_once_is_well_again_when_it_answers(
    troubled: type[Probe[Any]], tmp_path: Path, account: fakes.Account
) -> None:
    table = {"trouble": "hangs_once", "path": str(tmp_path / "hung")}
    async with watching(troubled, "process", tmp_path, account, patience=5, **table) as watch:
        assert (await watch.check()).status is Status.UNKNOWN
        async with asyncio.timeout(30):
            while (await watch.check()).status is not Status.HEALTHY:
                await asyncio.sleep(0.1)
    assert account.restarts == 1


async def test_a_hung_thread_is_waited_for_and_not_repeated(
    troubled: type[Probe[Any]], tmp_path: Path, account: fakes.Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    gate, calls = threading.Event(), []

    def waits_at_the_gate(self: Any) -> Any:
        calls.append(1)
        gate.wait()
        return self.none()

    monkeypatch.setattr(troubled, "hangs", waits_at_the_gate)
    async with watching(troubled, "thread", tmp_path, account, patience=0.5, trouble="hangs") as watch:
        assert (await watch.check()).reading.summary == "no answer within 0.5 s"
        stuck = await watch.check()
        assert "its last call has not come back" in stuck.reading.summary
        assert account.hanging == {"door": True}
        assert len(calls) == 1
        gate.set()
        async with asyncio.timeout(5):
            while (await watch.check()).status is not Status.HEALTHY:
                await asyncio.sleep(0.01)
        assert account.hanging == {"door": False}


async def test_a_coroutine_that_will_not_be_cancelled_is_waited_for_and_not_repeated(
    async_troubled: type[Probe[Any]], tmp_path: Path, account: fakes.Account
) -> None:
    async with watching(
        async_troubled, "loop", tmp_path, account, patience=0.5, trouble="will_not_be_cancelled"
    ) as watch:
        assert (await watch.check()).reading.summary == "no answer within 0.5 s"
        assert "a coroutine must let CancelledError pass" in (await watch.check()).reading.summary
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.get_coro().close()


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


async def test_what_a_probe_leaks_ends_with_its_process(
    troubled: type[Probe[Any]], tmp_path: Path, account: fakes.Account
) -> None:
    descent.adopt_orphans()  # as the daemon does; so what is left is counted by the fixture
    for trouble in ("leaks_a_child", "leaks_an_escapee", "leaks_and_hangs", "leaks_and_exits"):
        async with watching(troubled, "process", tmp_path, account, patience=3, trouble=trouble) as watch:
            await watch.check()


async def test_a_probe_that_leaks_without_end_is_started_afresh(
    troubled: type[Probe[Any]], tmp_path: Path, account: fakes.Account
) -> None:
    async with watching(troubled, "process", tmp_path, account, trouble="leaks_many") as watch:
        entry = await watch.check()
    assert "left 40 processes behind" in entry.reading.summary


async def test_what_a_process_prints_logs_and_counts_reaches_the_daemon(
    troubled: type[Probe[Any]], tmp_path: Path, account: fakes.Account, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "mlopsd")
    async with watching(troubled, "process", tmp_path, account, trouble="says") as watch:
        await watch.check()
        async with asyncio.timeout(5):
            while not any(record.message == "probe printed" for record in caplog.records):
                await asyncio.sleep(0.01)
    said = {record.message: record.__dict__ for record in caplog.records}
    assert said["probe printed"]["line"] == "hello from the child"
    assert (said["looked"]["probe"], said["looked"]["door"]) == ("door", "'shut'")
    assert account.counts == [("door", "looks_total", {}, 1)]


async def test_a_process_inherits_no_secret_and_no_descriptor(
    troubled: type[Probe[Any]], tmp_path: Path, account: fakes.Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NOTIFY_SOCKET", "LISTEN_FDS", "WATCHDOG_USEC", "MLOPSD_API__API_KEYS"):
        monkeypatch.setenv(name, "secret")
    async with watching(troubled, "process", tmp_path, account, trouble="looks_around") as watch:
        facts = (await watch.check()).reading.facts
    assert facts["environment"] == [descent.MARK]
    assert facts["descriptors"] <= 5  # standard ones, the channel, and the listing itself


async def test_a_child_ends_when_its_parent_is_killed(strange_path: Path, tmp_path: Path) -> None:
    script = f"""
import asyncio, pathlib, sys
sys.path.insert(0, {str(Path(__file__).parent.parent)!r})
from tests import fakes
from mlopsd.board import Board
import troubled
async def main():
    watch = fakes.watch(fakes.configured(troubled.Troubled, "process", {{}}), pathlib.Path({str(tmp_path)!r}),
                        Board(), fakes.Account())
    print((await watch.check()).reading.facts["pid"], flush=True)
    await asyncio.sleep(3600)
asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    child = psutil.Process(int(await process.stdout.readline()))
    process.kill()
    await process.wait()
    await asyncio.to_thread(child.wait, 5)


async def test_a_reload_is_refused_forced_and_not_done_twice(
    troubled: type[Probe[Any]], tmp_path: Path, account: fakes.Account, caplog: pytest.LogCaptureFixture
) -> None:
    for isolation in ("thread", "process"):
        async with watching(troubled, isolation, tmp_path, account) as watch:
            assert watch.can_reload
            with pytest.raises(Refused, match="does not want to"):
                await watch.start_reload(dry_run=False, force=False).done
            (told,) = [record for record in caplog.records if record.message == "reload refused"]
            assert (told.__dict__["reason"], told.exc_info) == ("it does not want to", None)
            caplog.clear()
            assert await watch.start_reload(dry_run=True, force=True).done == "would"
            assert await watch.start_reload(dry_run=False, force=True).done == "did"
