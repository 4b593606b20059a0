"""Nothing that a probe starts outlives it, nothing stays a zombie, and nobody's exit status is taken away."""

import asyncio
import logging
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import psutil
import pytest

from mlopsd.log_limit import LogLimiter
from mlopsd.probe import Probe, Status
from mlopsd.process import procfs, tree
from mlopsd.process.child import spawn
from mlopsd.process.reaper import Reaper, adopt_orphans
from tests import fakes
from tests.running import GIVE_UP
from tests.worker.watching import children, lose_patience, watching


async def test_what_a_probe_leaks_ends_with_its_process(
    troubled: type[Probe[Any]], tmp_path: Path, account: fakes.Account
) -> None:
    adopt_orphans()  # as the daemon does; so what is left is counted by the fixture
    for trouble in ("leaks_a_child", "leaks_an_escapee", "leaks_and_hangs", "leaks_and_exits"):
        async with watching(
            troubled, "process", tmp_path, account, trouble=trouble, well_first=True
        ) as watch:
            await watch.check()
            lose_patience(watch, 2)
            await watch.check()


async def test_a_probe_that_leaks_without_end_is_started_afresh(
    troubled: type[Probe[Any]], tmp_path: Path, account: fakes.Account
) -> None:
    async with watching(troubled, "process", tmp_path, account, trouble="leaks_many") as watch:
        entry = await watch.check()
    assert "left 40 processes behind" in entry.reading.summary


async def test_a_probe_that_leaks_and_fails_is_started_afresh(
    troubled: type[Probe[Any]], tmp_path: Path, account: fakes.Account
) -> None:
    async with watching(
        troubled, "process", tmp_path, account, trouble="leaks_many_and_raises", well_first=True
    ) as watch:
        pid = (await watch.check()).reading.facts["pid"]
        summary = (await watch.check()).reading.summary
        async with asyncio.timeout(GIVE_UP):
            while psutil.pid_exists(pid):
                await asyncio.sleep(0.01)
    why = "ZeroDivisionError: one over nought"
    assert summary == f"it left 40 processes behind and failed ({why}); its process was restarted"


HANDS_ON = """
import os, sys, time
if os.fork() == 0:  # the first, in a session of its own
    os.setsid()
    print(os.getpid(), flush=True)
    sys.stdin.readline()
    if os.fork() == 0:  # the second, which the first leaves when it is told to
        print(os.getpid(), flush=True)
        time.sleep(600)
    os._exit(0)
time.sleep(600)
"""


async def test_who_is_left_during_the_search_for_those_left_ends_too(monkeypatch: pytest.MonkeyPatch) -> None:
    adopt_orphans()
    mark = tree.new_mark()
    dying = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", HANDS_ON),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, tree.MARK: mark},
        start_new_session=True,
    )
    to, back = dying.stdin, dying.stdout
    assert to is not None
    assert back is not None
    first = int(await back.readline())
    os.kill(dying.pid, signal.SIGKILL)
    second = 0
    real = tree._ask

    async def ask_too_late(pid: int, mark: str) -> bool:
        nonlocal second
        if pid == first:
            to.write(b"\n")
            second = int(await back.readline())
            while os.waitpid(first, os.WNOHANG) == (0, 0):  # noqa: ASYNC222  # it does not wait
                await asyncio.sleep(0.01)
        return await real(pid, mark)

    monkeypatch.setattr(tree, "_ask", ask_too_late)
    while first not in {child.pid for child in procfs.of_main_thread()}:
        await asyncio.sleep(0.01)
    procfs.WAITED_FOR.add(dying.pid)
    try:
        await tree.kill_orphans(dying.pid, (), mark)
    finally:
        procfs.WAITED_FOR.discard(dying.pid)
    assert second
    assert not psutil.pid_exists(second)
    await dying.wait()


async def test_what_has_ended_is_no_process_that_was_left(
    troubled: type[Probe[Any]], tmp_path: Path, account: fakes.Account
) -> None:
    async with watching(troubled, "process", tmp_path, account, trouble="leaks_zombies") as watch:
        assert (await watch.check()).status is Status.HEALTHY


async def test_the_death_of_one_process_asks_nothing_that_may_hang_of_another(
    troubled: type[Probe[Any]], tmp_path: Path, account: fakes.Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    adopt_orphans()
    read: list[tuple[str, threading.Thread]] = []
    real = Path.read_bytes

    def noted(path: Path) -> bytes:
        read.append((str(path), threading.current_thread()))
        return real(path)

    async with watching(troubled, "process", tmp_path, account) as other:
        living = (await other.check()).reading.facts["pid"]
        async with watching(troubled, "process", tmp_path, account, trouble="leaks_and_exits") as dying:
            monkeypatch.setattr(Path, "read_bytes", noted)
            await dying.check()
        assert (await other.check()).reading.facts["pid"] == living
    asked = [path for path, _ in read if path.endswith(("environ", "cmdline"))]
    assert asked, "the escapee was told by its mark"
    assert not [path for path in asked if path.startswith(f"/proc/{living}/")]
    assert threading.main_thread() not in {thread for _, thread in read}


async def test_a_process_that_cannot_be_asked_holds_up_neither_the_loop_nor_the_others(
    troubled: type[Probe[Any]], tmp_path: Path, account: fakes.Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    adopt_orphans()
    hangs, gate = await asyncio.create_subprocess_exec("sleep", "3600"), threading.Event()
    before = {child.pid for child in psutil.Process().children()}  # the servers of other tests among them
    real = tree._carries

    def carries(pid: int, mark: str) -> bool:
        return not gate.wait(10 * GIVE_UP) if pid == hangs.pid else real(pid, mark)

    monkeypatch.setattr(tree, "_carries", carries)
    try:
        async with watching(troubled, "process", tmp_path, account, trouble="leaks_and_exits") as watch:
            await watch.check()
            async with asyncio.timeout(GIVE_UP):
                while any(child.pid not in before for child in psutil.Process().children()):
                    await asyncio.sleep(0.01)
    finally:
        gate.set()
    hangs.kill()
    await hangs.wait()


def zombies() -> list[int]:
    found = (procfs.child(pid) for pid in procfs.children(os.getpid()))
    return [child.pid for child in found if child is not None and child.state == "Z"]


async def until_there_is_a_zombie() -> None:
    async with asyncio.timeout(GIVE_UP):
        while not zombies():
            await asyncio.sleep(0.01)


async def test_what_a_probe_in_a_thread_leaves_is_reaped_when_it_has_ended(
    troubled: type[Probe[Any]], tmp_path: Path, account: fakes.Account
) -> None:
    adopt_orphans()
    before = children()
    async with watching(troubled, "thread", tmp_path, account, trouble="leaves_an_orphan") as watch:
        running = asyncio.create_task(watch.run(), name="watch")
        await until_there_is_a_zombie()
        watch._reaper = Reaper(grace=0)
        first = zombies()
        async with asyncio.timeout(GIVE_UP):
            while set(first) & set(zombies()):
                await asyncio.sleep(0.01)
        running.cancel()
        await watch.check()  # it, or the one in flight, is the last that leaves anything
        async with asyncio.timeout(GIVE_UP):
            while children() > before:
                Reaper(grace=0).reap()
                await asyncio.sleep(0.01)


async def test_an_orphan_is_reaped_when_it_has_been_a_zombie_for_a_while() -> None:
    adopt_orphans()
    clock = fakes.Clock()
    reaper = Reaper(60, clock)
    await (await asyncio.create_subprocess_exec("sh", "-c", "sleep 0.05 &")).wait()
    await until_there_is_a_zombie()
    reaper.reap()
    clock.now += 59
    reaper.reap()
    assert zombies()
    clock.now += 1
    reaper.reap()
    assert not zombies()


async def test_no_exit_status_that_somebody_waits_for_is_taken_away(
    troubled: type[Probe[Any]], tmp_path: Path, account: fakes.Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    adopt_orphans()
    reaper = Reaper(grace=0)
    ours = await asyncio.create_subprocess_exec("sh", "-c", "exit 5")
    monkeypatch.setattr(procfs, "WAITED_FOR", {*procfs.WAITED_FOR, ours.pid})
    spawned = []
    async with watching(
        troubled, "thread", tmp_path, account, trouble="asks_late_how_its_process_ended"
    ) as watch:
        for _ in range(4):
            entry = await watch.check()
            spawned += zombies()
            await asyncio.sleep(0.05)
            reaper.reap()
        assert spawned, "it had ended, and was asked for only later"
        assert entry.reading.facts["exit_status"] == 7
    assert await ours.wait() == 5


def test_a_zombie_that_is_waited_for_is_left_to_whoever_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = subprocess.Popen(["sh", "-c", "exit 5"])
    monkeypatch.setattr(procfs, "WAITED_FOR", {*procfs.WAITED_FOR, ours.pid})
    os.waitid(os.P_PID, ours.pid, os.WEXITED | os.WNOWAIT)
    Reaper(grace=0).reap()
    assert ours.wait() == 5


async def test_a_process_of_a_probe_is_left_to_asyncio_to_wait_for(
    troubled: type[Probe[Any]], tmp_path: Path, account: fakes.Account
) -> None:
    reaper = Reaper(grace=0)
    async with watching(troubled, "process", tmp_path, account, trouble="exits") as watch:
        check = asyncio.create_task(watch.check(), name="check")
        while not check.done():
            reaper.reap()
            await asyncio.sleep(0)
        assert "ended with exit status 7" in check.result().reading.summary


async def test_the_end_of_one_thread_hides_no_child_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that ends between the listing and the reading is told apart from a process that has ended."""
    started = await asyncio.create_subprocess_exec("sleep", "3600")
    listed = procfs._threads

    def one_more(pid: int) -> list[Path]:
        return [Path(f"/proc/{pid}/task/ended"), *listed(pid)]

    monkeypatch.setattr(procfs, "_threads", one_more)
    try:
        assert started.pid in procfs.children(os.getpid())
    finally:
        started.kill()
        await started.wait()


CHAIN = """
import os, sys, time
try:  # each waits for the one before it to run, which is long on a busy machine
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
except OSError:
    pass
for left in range(1200):
    if os.fork():
        break
else:
    open(sys.argv[1], "x").close()
time.sleep(600)
"""


async def test_a_chain_of_processes_longer_than_python_recurses_is_ended_as_a_whole(tmp_path: Path) -> None:
    adopt_orphans()
    whole = tmp_path / "whole"
    command = (sys.executable, "-I", "-S", "-c", CHAIN, str(whole))
    child = await spawn(command, "chain", logging.getLogger("mlopsd.test"), LogLimiter())
    while not whole.exists():
        assert not child.ended
        await asyncio.sleep(0.05)
    family = list(procfs.descendants(child.pid))
    await child.kill()
    await child._cleared
    assert len(family) == 1200
    assert child.how_it_ended() == "was killed by SIGKILL"
    assert not [pid for pid in family if psutil.pid_exists(pid)]


async def test_a_process_is_killed_also_where_its_descendants_cannot_be_searched_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    started = await asyncio.create_subprocess_exec("sleep", "3600", start_new_session=True)

    def fails(pid: int) -> list[int]:
        raise RecursionError(f"too deep below {pid}")

    monkeypatch.setattr(procfs, "descendants", fails)
    assert tree.end(started.pid, signal.SIGKILL) == []
    assert await started.wait() == -signal.SIGKILL
    assert "descendants unknown" in caplog.text


def test_each_process_of_a_family_is_reported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that were killed are listed for a while yet, each with all below it."""
    monkeypatch.setattr(procfs, "descendants", lambda pid: range(pid + 1, 1200))
    monkeypatch.setattr(tree, "_send", lambda *_: None)
    monkeypatch.setattr(tree, "_send_group", lambda *_: None)
    assert tree._killed([1, 2]) == [1, 2, *range(3, 1200)]
