"""One run: the daemon on its stage, callers, the observer, and fault after fault until the time is over."""

import asyncio
import contextlib
import json
import signal
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from chaos import kin
from chaos.daemon import Daemon
from chaos.faults import FAULTS, Fault, Ground, Injected
from chaos.kin import Census
from chaos.observer import Observer, Truth
from chaos.schedule import Turn, turns
from chaos.shapes import Shapes
from chaos.stage import INTERVAL, PROBES, Stage
from chaos.timeline import Timeline
from chaos.traffic import Traffic

FIRST_SECONDS = 120.0  # until everything is well for the first time, MLflow imported thrice
NEVER_SECONDS = 120.0  # after which a run that does not recover is given up
MORE = Census(descriptors=8, threads=4, children=0, rss=30 * 2**20)  # than at a daemon's first calm
STOP_SECONDS = 2.5
TO_BE_SEEN = 2 * INTERVAL  # seconds until a loss has shown, where nothing holds it


@dataclass(slots=True)
class Tale:
    """What a run came to.

    Attributes:
        faults: how often each was injected.
        recoveries: the longest recovery after a turn with each fault, in seconds.
        first: what the daemon held at the first calm.
        last: what the daemon, or its successor, held at the last.
    """

    seed: int
    seconds: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    recoveries: dict[str, float] = field(default_factory=dict)
    first: Census | None = None
    last: Census | None = None


class Run:
    """A run with *seed* for *seconds*, with all that it makes in *folder*."""

    def __init__(
        self, seed: int, seconds: float, folder: Path, timeline: Timeline, faults: Sequence[Fault] = FAULTS
    ) -> None:
        self._seconds = seconds
        self.timeline = timeline
        self._faults = faults
        self.tale = Tale(seed)
        self._stage = Stage(folder)
        self._daemon = Daemon(self._stage.config, self._stage.port, self._stage.environment(), timeline)
        self._ground = Ground(self._stage, self._daemon)
        self._at_first_calm: tuple[int, Census] | None = None  # of the daemon with that number of starts

    async def play(self) -> None:
        """From the first start to the last stop; SIGTERM and Ctrl-C end it, and all that it started."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, task.cancel)
        try:
            await self._stage.set()
            supervising = asyncio.get_running_loop().create_task(self._daemon.supervise())
            await asyncio.wait_for(self._daemon.listening.wait(), FIRST_SECONDS)
            await self._under_traffic()
            took = await self._daemon.stop()
            if took > STOP_SECONDS:
                self.timeline.violate("stops in time", f"{took:.1f} s after SIGTERM")
            await supervising
        finally:
            self._end()

    def _end(self) -> None:
        with contextlib.suppress(AssertionError):
            self._daemon.signal(signal.SIGKILL)
        self._stage.strike()

    @property
    def journal(self) -> list[str]:
        """The end of what the daemons logged."""
        return list(self._daemon.tail)

    def figures(self) -> list[str]:
        """How much was asked and looked at, in lines."""
        if not hasattr(self, "observer"):
            return ["it never listened"]
        codes, observer = self._traffic.codes, self.observer
        slowest = ", ".join(
            f"{path} {seconds:.2f} s" for path, seconds in sorted(self._traffic.longest.items())
        )
        return [
            f"requests: {sum(codes.values())}; starts of the daemon: {self._daemon.starts}",
            *(f"  {what:40} {times}" for what, times in sorted(codes.items())),
            f"checks: {self._traffic.checks:.0f}",
            f"looks: {observer.looks}, {observer.compared} of them under a fault that must show",
            f"longest answers: {slowest}; callers late by up to {self._traffic.greatest_lag:.2f} s",
            f"at the first calm: {self.tale.first}; at the last: {self.tale.last}",
            f"lines logged: {self._daemon.lines}, most of them {self._daemon.events.most_common(5)}",
        ]

    async def _under_traffic(self) -> None:
        self._traffic = Traffic(
            self._stage.port,
            await asyncio.to_thread(self._shapes),
            self.timeline,
            lambda: self._stage.factors,
        )
        self.observer = Observer(self._traffic, self.timeline, PROBES)
        self.timeline.open("host")
        calling = asyncio.get_running_loop().create_task(self._traffic.run())
        looking = asyncio.get_running_loop().create_task(self.observer.run(self._stage.port))
        try:
            await self._until_well(FIRST_SECONDS)
            self.timeline.close("host")
            await self._play_turns()
        finally:
            for task in (calling, looking):
                task.cancel()
            await asyncio.wait({calling, looking})
            for task in (calling, looking):
                if not task.cancelled():
                    task.result()

    def _shapes(self) -> Shapes:
        with urllib.request.urlopen(
            f"http://127.0.0.1:{self._stage.port}/openapi.json", timeout=60
        ) as answer:
            return Shapes(json.loads(answer.read()))

    async def _play_turns(self) -> None:
        began = time.monotonic()
        available = [one for one in self._faults if self._stage.has_disk_of_its_own or not one.needs_disk]
        for left_out in {one.name for one in self._faults} - {one.name for one in available}:
            self.timeline.note(f"left out: {left_out}, which needs the rights of root")
        await self._count()
        for turn in turns(self.tale.seed, available):
            if time.monotonic() - began > self._seconds:
                break
            await self._play(turn)
        self.tale.seconds = time.monotonic() - began

    async def _play(self, turn: Turn) -> None:
        self.timeline.note(f"{turn}")
        begun: list[tuple[Fault, Injected, Truth | None]] = []
        for fault in turn.faults:
            if begun:
                await asyncio.sleep(turn.later)
            begun.append(await self._begin(fault))
        lasts = any(fault.lasts for fault in turn.faults)
        await asyncio.sleep(turn.hold if lasts else TO_BE_SEEN)
        for fault, injected, truth in begun:
            await self._undo(fault, injected, truth)
        await self._recover(turn)
        await asyncio.sleep(turn.calm)
        await self._count()

    async def _begin(self, fault: Fault) -> tuple[Fault, Injected, Truth | None]:
        for window in fault.excuses:
            self.timeline.open(window)
        injected = await fault.begin(self._ground)
        self.timeline.note(f"  {fault.name}: {injected.what}")
        self.tale.faults[fault.name] += 1
        truth = None
        if fault.shows:
            truth = self.observer.must_show(fault.shows, fault.name, injected.holds)
        return fault, injected, truth

    async def _undo(self, fault: Fault, injected: Injected, truth: Truth | None) -> None:
        if truth is not None:
            self.observer.over(truth)
        await injected.undo()
        self.timeline.note(f"  {fault.name} is over")

    async def _recover(self, turn: Turn) -> None:
        limit = max(fault.recovers for fault in turn.faults)
        took = await self._until_well(limit)
        for fault in turn.faults:
            longest = self.tale.recoveries.get(fault.name, 0.0)
            self.tale.recoveries[fault.name] = max(longest, took)
        self._stage.expect_champion()
        for window in {window for fault in turn.faults for window in fault.excuses}:
            self.timeline.close(window)

    async def _until_well(self, limit: float) -> float:
        """Wait until all is well and the champion serves; the seconds that it took from now.

        The time in which the reading says that a version is on its way is not counted: how long MLflow
        takes to be imported is this machine's.

        Raises:
            TimeoutError: it never was.
        """
        began = before = time.monotonic()
        loading = 0.0
        while not (self.observer.is_well and self._serves_the_champion and self.observer.seen.asked >= began):
            if time.monotonic() - began > limit + NEVER_SECONDS:
                raise TimeoutError(f"not well after {limit + NEVER_SECONDS:g} s: {self.observer.unwell()}")
            await asyncio.sleep(0.05)
            now = time.monotonic()
            loading, before = loading + (now - before) * self.observer.loads, now
        if (took := time.monotonic() - began - loading) > limit:
            self.timeline.violate("recovers in time", f"{took:.1f} s, not {limit:.1f} s")
        return took

    @property
    def _serves_the_champion(self) -> bool:
        return self.observer.served == self._stage.registry.champion

    async def _count(self) -> None:
        """What the daemon holds while all is well; more than at its own first calm is a leak."""
        await self._settle()
        found = await self._least()
        self.timeline.note(f"  calm: {found}")
        self.tale.first = self.tale.first or found
        self.tale.last = found
        if self._at_first_calm is None or self._at_first_calm[0] != self._daemon.starts:
            self._at_first_calm = (self._daemon.starts, found)
        for leak in leaks(self._at_first_calm[1], found):
            self.timeline.violate("no leak", leak)

    async def _settle(self) -> None:
        """Wait for a version that is on its way; nobody waits for one that the alias has left."""
        deadline = time.monotonic() + NEVER_SECONDS
        while not self.observer.is_settled and time.monotonic() < deadline:
            await asyncio.sleep(0.1)

    async def _least(self) -> Census:
        """The least of several moments: what a request or a check holds is not held."""
        found = [kin.census(self._daemon.pid)]
        for _ in range(10):
            await asyncio.sleep(0.1)
            found.append(kin.census(self._daemon.pid))
        return Census(*(min(getattr(one, name) for one in found) for name in Census.__slots__))


def leaks(first: Census, now: Census) -> Iterator[str]:
    """Everything that *now* has more of than *first* and `MORE`."""
    for name in Census.__slots__:
        before, after = getattr(first, name), getattr(now, name)
        if after > before + getattr(MORE, name):
            yield f"{name} grew from {before} to {after}"
