"""The beat of a watch: spread over hosts and probes, without drift, missed beats skipped."""

import asyncio
from pathlib import Path

import pytest

from mlopsd.board import Board
from mlopsd.probe import Finding, Probe, Reading, Schedule, Status
from mlopsd.watch import next_beat, spread
from tests import fakes


def test_the_same_probe_beats_at_another_moment_on_another_host() -> None:
    places = [spread(f"host{number}", "gpu") for number in range(1000)]
    assert all(0 <= place < 1 for place in places)
    tenths = [sum(tenth <= place * 10 < tenth + 1 for place in places) for tenth in range(10)]
    assert min(tenths) > 60, "a fleet is spread over the whole interval"
    assert spread("here", "gpu") == spread("here", "gpu") != spread("here", "system")


@pytest.mark.parametrize(
    ("beat", "now", "following"),
    [(10, 9, 10), (10, 10, 25), (10, 10.1, 25), (10, 26, 40), (10, 1000, 1015)],
)
def test_the_beat_does_not_drift_and_missed_ones_are_skipped(
    beat: float, now: float, following: float
) -> None:
    assert next_beat(beat, 15, now) == following


class Quick(Probe):
    schedule = Schedule(interval=0.05, timeout=1, isolation="loop")

    async def check(self) -> Reading:
        return Reading([Finding("door", Status.HEALTHY, "shut")])


async def test_a_probe_is_checked_at_once_and_then_on_its_beat(tmp_path: Path) -> None:
    board, account = Board(), fakes.Account()
    watch = fakes.watch(fakes.configured(Quick, "loop"), tmp_path, board, account)
    running = asyncio.create_task(watch.run(), name="watch")
    await asyncio.wait_for(watch.first_reading(), 5)
    async with asyncio.timeout(5):
        while len(account.checks) < 5:
            await asyncio.sleep(0.01)
    running.cancel()
    await watch.close()
    board.close()
    assert set(account.checks) == {("door", "ok")}


async def test_slow_checks_of_one_probe_never_overlap(tmp_path: Path) -> None:
    board, account = Board(), fakes.Account()

    class Slow(Quick):
        schedule = Schedule(interval=0.1, timeout=1, isolation="loop")

        async def check(self) -> Reading:
            await asyncio.sleep(0.15)
            return Reading([Finding("door", Status.HEALTHY, "shut")])

    watch = fakes.watch(fakes.configured(Slow, "loop"), tmp_path, board, account)
    began = asyncio.get_running_loop().time()
    running = asyncio.create_task(watch.run(), name="watch")
    async with asyncio.timeout(10):
        while len(account.checks) < 4:
            await asyncio.sleep(0.01)
    took = asyncio.get_running_loop().time() - began
    running.cancel()
    await watch.close()
    board.close()
    assert took >= 4 * 0.15, "checks of one probe never overlap"
