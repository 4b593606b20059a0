"""The beat of a watch: spread over hosts and probes, without drift, missed beats skipped."""

import asyncio
import selectors
from pathlib import Path

import pytest

from mlopsd.board import Board
from mlopsd.probe import Finding, Probe, Reading, Schedule, Status
from mlopsd.watch import next_due, spread
from tests import fakes
from tests.running import GIVE_UP


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
    assert next_due(beat, 15, now) == following


class Quick(Probe):
    schedule = Schedule(interval=0.05, timeout=60, isolation="loop")

    async def check(self) -> Reading:
        return Reading([Finding("door", Status.HEALTHY, "shut")])


async def test_a_probe_is_checked_at_once_and_then_on_its_beat(tmp_path: Path) -> None:
    board, account = Board(), fakes.Account()
    watch = fakes.watch(fakes.configured(Quick, "loop"), tmp_path, board, account)
    running = asyncio.create_task(watch.run(), name="watch")
    await asyncio.wait_for(watch.first_reading(), GIVE_UP)
    async with asyncio.timeout(GIVE_UP):
        while len(account.checks) < 5:
            await asyncio.sleep(0.01)
    running.cancel()
    await watch.close()
    board.close()
    assert set(account.checks) == {("door", "ok")}


async def test_slow_checks_of_one_probe_never_overlap(tmp_path: Path) -> None:
    board, account = Board(), fakes.Account()

    class Slow(Quick):
        schedule = Schedule(interval=0.1, timeout=60, isolation="loop")

        async def check(self) -> Reading:
            await asyncio.sleep(0.15)
            return Reading([Finding("door", Status.HEALTHY, "shut")])

    watch = fakes.watch(fakes.configured(Slow, "loop"), tmp_path, board, account)
    began = asyncio.get_running_loop().time()
    running = asyncio.create_task(watch.run(), name="watch")
    async with asyncio.timeout(GIVE_UP):
        while len(account.checks) < 4:
            await asyncio.sleep(0.01)
    took = asyncio.get_running_loop().time() - began
    running.cancel()
    await watch.close()
    board.close()
    assert took >= 4 * 0.15, "checks of one probe never overlap"


class HastyLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to whatever is due next, so that hours take no time."""

    def __init__(self) -> None:
        self._hasty = HastySelector()
        super().__init__(self._hasty)

    def time(self) -> float:
        return self._hasty.now


class HastySelector(selectors.DefaultSelector):
    """Waits for nothing, and says that it did."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.now += timeout or 0
        return super().select(0)


def test_a_watch_keeps_its_beat_for_hours_whatever_its_checks_take(tmp_path: Path) -> None:
    began: list[float] = []

    class Unsteady(Probe):
        schedule = Schedule(interval=30, timeout=60, isolation="loop")

        async def check(self) -> Reading:
            began.append(asyncio.get_running_loop().time())
            await asyncio.sleep(40 if len(began) % 100 == 0 else len(began) % 7)
            return Reading([Finding("door", Status.HEALTHY, "shut")])

    async def watch_until(end: float) -> None:
        board = Board()
        watch = fakes.watch(fakes.configured(Unsteady, "loop"), tmp_path, board, fakes.Account())
        running = asyncio.create_task(watch.run(), name="watch")
        await asyncio.sleep(end)
        running.cancel()
        await watch.close()
        board.close()

    with asyncio.Runner(loop_factory=HastyLoop) as runner:
        runner.run(watch_until(10 * 3600))
    first, beats = began[0], [round((later - began[1]) / 30, 6) for later in began[1:]]
    assert first < 0.5
    slow = sum(number % 100 == 0 for number in range(1, len(began)))
    assert slow == 11
    assert beats[-1] == len(beats) - 1 + slow, "each slow check costs one beat, and only that"
    assert all(beat == int(beat) for beat in beats), "no beat is moved by the checks before it"
