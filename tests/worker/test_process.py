"""The process of a probe: how it is started, what it is told, how it fails and is started again."""

import asyncio
import errno
import logging
import os
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from mlopsd.board import Board
from mlopsd.metrics.registry import Metrics
from mlopsd.probe import Probe, ProbeError, Reading, Status
from mlopsd.process import child
from mlopsd.process.channel import RequestChannel
from mlopsd.process.frames import BadFrame
from mlopsd.worker import process
from mlopsd.worker.codec import Incoming
from mlopsd.worker.factory import make_worker
from mlopsd.worker.process import InitMessage, ProbeProcess
from tests import fakes
from tests.running import GIVE_UP
from tests.worker.watching import lose_patience, reached, watching


@pytest.mark.parametrize(
    ("trouble", "sentence"),
    [("exits", "ended with exit status 7"), ("segfaults", "was killed by SIGSEGV")],
)
async def test_a_process_that_dies_says_how_and_is_started_again_after_a_pause(
    troubled: type[Probe[Any]],
    trouble: str,
    sentence: str,
    tmp_path: Path,
    account: fakes.Account,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with watching(troubled, "process", tmp_path, account, trouble=trouble) as watch:
        assert isinstance(watch._worker, process.ProcessWorker)
        monkeypatch.setattr(watch._worker._backoff, "_clock", fakes.Clock())
        first = await watch.check()
        assert sentence in first.reading.summary
        second = await watch.check()
    assert f"died 1 times in a row (last: its process {sentence}); next start in" in second.reading.summary
    assert account.checks == [("door", "died"), ("door", "cannot_tell")]


async def test_a_process_that_cannot_be_started_is_a_reading_and_tried_again(
    troubled: type[Probe[Any]], tmp_path: Path, account: fakes.Account, monkeypatch: pytest.MonkeyPatch
) -> None:

    real = child.spawn

    async def cannot(*_: Any) -> Any:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(process, "spawn", cannot)
    async with watching(troubled, "process", tmp_path, account) as watch:
        summary = (await watch.check()).reading.summary
        assert (
            summary
            == "cannot start its process: Resource temporarily unavailable; free that resource on the host"
        )
        monkeypatch.setattr(process, "spawn", real)
        async with asyncio.timeout(GIVE_UP):
            while (await watch.check()).status is not Status.HEALTHY:
                await asyncio.sleep(0.1)


@pytest.mark.parametrize(("interval", "longest"), [(0.2, 1.0), (15.0, 15.0), (3600.0, 300.0)])
async def test_the_pause_before_a_start_is_at_most_an_interval(
    troubled: type[Probe[Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    interval: float,
    longest: float,
) -> None:
    async def cannot(*_: Any) -> ProbeProcess:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(process, "spawn", cannot)
    configured = fakes.configured(troubled, "process", {"trouble": "none"})
    configured = replace(configured, terms=replace(configured.terms, interval=interval))
    board = Board()
    worker = make_worker(configured, tmp_path, board, Metrics(board, "1").probes, logging.getLogger("test"))
    assert isinstance(worker, process.ProcessWorker)
    monkeypatch.setattr(worker._backoff, "_clock", clock := fakes.Clock())
    for _ in range(12):
        with pytest.raises(ProbeError, match="cannot start"):
            await worker.check()
        pause = worker.pause
        clock.now += pause
    assert 0.8 * longest <= pause <= 1.2 * longest


async def test_the_pause_before_a_start_doubles_up_to_five_minutes(
    troubled: type[Probe[Any]], tmp_path: Path, account: fakes.Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def cannot(*_: Any) -> ProbeProcess:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(process, "spawn", cannot)
    clock = fakes.Clock()
    configured = fakes.configured(troubled, "process", {"trouble": "none"})
    opening = InitMessage("door", configured.plugin.target, configured.table, tmp_path, logging.INFO, 1.0)
    worker = process.ProcessWorker(
        opening, (), fakes.Instruments(), account.restarted, logging.getLogger("test"), clock=clock
    )
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


async def test_a_first_start_waits_for_nothing_wherever_the_steady_clock_begins(
    troubled: type[Probe[Any]], tmp_path: Path, account: fakes.Account
) -> None:
    configured = fakes.configured(troubled, "process", {"trouble": "none"})
    opening = InitMessage("door", configured.plugin.target, configured.table, tmp_path, logging.INFO, 1.0)
    clock = fakes.Clock(-5.0)
    worker = process.ProcessWorker(
        opening,
        (),
        account.instruments("door", "troubled", ()),
        lambda: None,
        logging.getLogger("test"),
        clock=clock,
    )
    assert worker.pause == 0


async def test_a_probe_that_hung_once_is_well_again_when_it_answers(
    troubled: type[Probe[Any]], tmp_path: Path, account: fakes.Account
) -> None:
    table: dict[str, Any] = {"trouble": "hangs_once", "path": str(tmp_path / "hung"), "well_first": True}
    async with watching(troubled, "process", tmp_path, account, **table) as watch:
        assert (await watch.check()).status is Status.HEALTHY
        lose_patience(watch)
        assert (await watch.check()).status is Status.UNKNOWN
        lose_patience(watch, 20)
        async with asyncio.timeout(GIVE_UP):
            while (await watch.check()).status is not Status.HEALTHY:
                await asyncio.sleep(0.1)
    assert account.restarts == 1


@pytest.fixture
def slowly_made(strange_path: Path) -> type[Probe[Any]]:
    import troubled

    found: type[Probe[Any]] = troubled.SlowlyMade
    return found


async def test_a_process_that_starts_slowly_is_not_restarted(
    slowly_made: type[Probe[Any]], tmp_path: Path, account: fakes.Account
) -> None:
    gate = tmp_path / "gate"
    async with watching(slowly_made, "process", tmp_path, account, patience=0.3, path=str(gate)) as watch:
        for _ in range(2):
            assert (await watch.check()).reading.summary.startswith("no answer within 0.3 s")
        gate.touch()
        lose_patience(watch, 20)
        assert (await watch.check()).reading.facts["checks"] == 1
    assert account.restarts == 0


async def test_a_process_that_does_not_start_is_restarted(
    slowly_made: type[Probe[Any]], tmp_path: Path, account: fakes.Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "START_SECONDS", 0.0)
    gate = tmp_path / "gate"
    async with watching(slowly_made, "process", tmp_path, account, path=str(gate)) as watch:
        watch._worker.prepare()
        await reached(tmp_path / "gate.reached")
        lose_patience(watch)
        assert (await watch.check()).reading.summary == "no answer within 0.3 s"
        (tmp_path / "gate.reached").unlink()
        gate.touch()
        lose_patience(watch, 20)
        async with asyncio.timeout(GIVE_UP):
            while (await watch.check()).status is not Status.HEALTHY:
                await asyncio.sleep(0.1)
    assert account.restarts == 1


async def test_what_a_process_prints_logs_and_counts_reaches_the_daemon(
    troubled: type[Probe[Any]], tmp_path: Path, account: fakes.Account, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "mlopsd")
    async with watching(troubled, "process", tmp_path, account, trouble="says") as watch:
        await watch.check()
        async with asyncio.timeout(GIVE_UP):
            while not any(record.message == "probe printed" for record in caplog.records):
                await asyncio.sleep(0.01)
    output = {record.message: record.__dict__ for record in caplog.records}
    assert output["probe printed"]["line"] == "hello from the child"
    assert (output["looked"]["probe"], output["looked"]["door"]) == ("door", "shut")
    assert account.counts == [("door", "looks_total", {}, 1)]


async def test_a_process_inherits_no_secret_and_no_descriptor(
    troubled: type[Probe[Any]], tmp_path: Path, account: fakes.Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NOTIFY_SOCKET", "LISTEN_FDS", "WATCHDOG_USEC", "MLOPSD_API__API_KEYS"):
        monkeypatch.setenv(name, "secret")
    async with watching(troubled, "process", tmp_path, account, trouble="looks_around") as watch:
        facts = (await watch.check()).reading.facts
    assert facts["environment"] == []
    assert facts["descriptors"] <= 5  # standard ones, the channel, and the listing itself


async def test_a_child_ends_when_its_parent_is_killed(strange_path: Path, tmp_path: Path) -> None:
    script = f"""
import asyncio, pathlib, sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
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
    await asyncio.to_thread(child.wait, 30)


@pytest.mark.parametrize("trouble", ["hangs", "holds_the_gil", "ignores_sigterm", "prints"])
async def test_a_process_that_gives_no_answer_costs_one_reading(
    troubled: type[Probe[Any]], trouble: str, tmp_path: Path, account: fakes.Account
) -> None:
    async with watching(troubled, "process", tmp_path, account, trouble=trouble, well_first=True) as watch:
        assert (await watch.check()).status is Status.HEALTHY
        lose_patience(watch)
        entry = await watch.check()
    assert entry.reading.summary == "no answer within 0.3 s"
    assert account.checks == [("door", "ok"), ("door", "timeout")]


async def test_a_process_that_writes_on_the_channel_answers_nonsense(
    troubled: type[Probe[Any]], tmp_path: Path, account: fakes.Account
) -> None:
    async with watching(troubled, "process", tmp_path, account, trouble="writes_on_the_channel") as watch:
        entry = await watch.check()
    assert "its process sent an invalid answer" in entry.reading.summary


async def test_an_answer_to_another_question_is_never_taken(
    troubled: type[Probe[Any]], tmp_path: Path, account: fakes.Account
) -> None:
    async with watching(troubled, "process", tmp_path, account, trouble="answers_for_us") as watch:
        entry = await watch.check()
    assert "an answer to request 0, not to 1" in entry.reading.summary


async def test_a_process_whose_answer_was_not_received_is_never_asked_again(
    troubled: type[Probe[Any]], tmp_path: Path, account: fakes.Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def breaks(*_: Any) -> Any:
        raise ZeroDivisionError

    async with watching(troubled, "process", tmp_path, account) as watch:
        pid = (await watch.check()).reading.facts["pid"]
        with monkeypatch.context() as patch:
            patch.setattr(RequestChannel, "ask", breaks)
            assert "ZeroDivisionError" in (await watch.check()).reading.summary
        async with asyncio.timeout(GIVE_UP):
            while (entry := await watch.check()).status is not Status.HEALTHY:
                await asyncio.sleep(0.05)
    assert entry.reading.facts["pid"] != pid


async def test_dates_in_the_configuration_reach_a_process_as_dates(
    troubled: type[Probe[Any]], tmp_path: Path, account: fakes.Account
) -> None:
    table = tomllib.loads(
        "times = [2026-01-02T03:04:05Z, 2026-01-02T03:04:05, 2026-01-02, 03:04:05]\nanything = 2026-01-02"
    )
    async with watching(
        troubled, "process", tmp_path, account, trouble="tells_its_options", **table
    ) as watch:
        facts = (await watch.check()).reading.facts
    assert facts["options"] == [
        "datetime 2026-01-02 03:04:05+00:00",
        "datetime 2026-01-02 03:04:05",
        "date 2026-01-02",
        "time 03:04:05",
        "date 2026-01-02",
    ]


async def test_options_that_cannot_be_sent_to_a_process_are_a_reading_and_a_pause(
    troubled: type[Probe[Any]], tmp_path: Path, account: fakes.Account
) -> None:
    async with watching(troubled, "process", tmp_path, account, anything=tmp_path) as watch:
        first, second = (await watch.check()).reading.summary, (await watch.check()).reading.summary
    assert first == (
        "cannot start its process: its options cannot be sent to it: "
        "not JSON: PosixPath is not a plain value;"
        ' use plain values, or isolation = "thread"'
    )
    assert "next start in" in second


async def test_a_level_of_the_log_that_was_changed_holds_in_a_running_process(
    troubled: type[Probe[Any]], tmp_path: Path, account: fakes.Account, caplog: pytest.LogCaptureFixture
) -> None:
    configured = fakes.configured(troubled, "process", {"trouble": "logs_at_every_level"})
    opening = InitMessage("door", configured.plugin.target, configured.table, tmp_path, logging.WARNING, 1.0)
    worker = process.ProcessWorker(
        opening, (), fakes.Instruments(), account.restarted, logging.getLogger("test")
    )
    for level, reported in (("WARNING", 1), ("DEBUG", 3), ("INFO", 2), ("ERROR", 0)):
        caplog.set_level(level, "mlopsd.probe")
        caplog.clear()
        await worker.check()
        assert [record.message for record in caplog.records].count("looked") == reported
    await worker.close()


NAMED = "names"  # the part of a frame that says what its samples are called


async def test_each_process_says_once_what_its_samples_are_called(
    troubled: type[Probe[Any]], tmp_path: Path, account: fakes.Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[set[str]] = []
    real = Incoming.reading

    def noted(self: Incoming, frame: Any) -> Reading:
        sent.append(set(frame["samples"]))
        if [NAMED in parts for parts in sent].count(True) == 2 and NAMED in frame["samples"]:
            raise BadFrame("the first reading of the second process is lost")
        return real(self, frame)

    monkeypatch.setattr(Incoming, "reading", noted)
    async with watching(troubled, "process", tmp_path, account, trouble="measures") as watch:
        pids = set()
        for _ in range(2):
            for _ in range(3):
                reading = (await watch.check()).reading
                assert [sample.labels for sample in reading.samples] == [(("side", "left"),)]
            pids.add(reading.facts["pid"])
            psutil.Process(reading.facts["pid"]).kill()
            async with asyncio.timeout(GIVE_UP):
                while (await watch.check()).status is not Status.HEALTHY:
                    await asyncio.sleep(0.1)
    assert len(pids) == 2
    assert [NAMED in parts for parts in sent] == [True, False, False, True, True, False, False, False, True]
