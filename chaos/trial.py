"""The turns of a run, one after the other: how soon all is well after each, and what is held then."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from chaos.census import Census, census, leaks, least
from chaos.fault import FaultKind, Ground, Injected
from chaos.observer import Observer, Truth
from chaos.schedule import Turn, turns
from chaos.stage import INTERVAL
from chaos.timeline import Timeline

NEVER_SECONDS = 120.0  # after which a run that does not recover is given up
MORE = Census(descriptors=8, threads=4, children=0, rss=30 * 2**20)  # than at a daemon's first calm
TO_BE_SEEN = 2 * INTERVAL  # seconds until a loss has shown, where nothing holds it
MOMENTS = 11  # in a second of calm, in which is counted


@dataclass(slots=True)
class Tale:
    """The result of a run.

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


class Trial:
    """Injects on *ground* what *observer* then looks for, and tells *tale* what came of it."""

    def __init__(self, ground: Ground, observer: Observer, timeline: Timeline, tale: Tale) -> None:
        self._ground = ground
        self._observer = observer
        self._timeline = timeline
        self._tale = tale
        self._at_first_calm: tuple[int, Census] | None = None  # of the daemon with that number of starts

    async def play(self, faults: Sequence[FaultKind], seconds: float) -> None:
        """Turn after turn for *seconds*, the last one to its end."""
        began = time.monotonic()
        available = [one for one in faults if self._ground.stage.has_disk_of_its_own or not one.needs_disk]
        for left_out in {one.name for one in faults} - {one.name for one in available}:
            self._timeline.note(f"left out: {left_out}, which needs the rights of root")
        await self._count()
        for turn in turns(self._tale.seed, available):
            if time.monotonic() - began > seconds:
                break
            await self._play(turn)
        self._tale.seconds = time.monotonic() - began

    async def _play(self, turn: Turn) -> None:
        self._timeline.note(f"{turn}")
        begun: list[tuple[FaultKind, Injected, Truth | None]] = []
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

    async def _begin(self, fault: FaultKind) -> tuple[FaultKind, Injected, Truth | None]:
        for window in fault.excuses:
            self._timeline.open(window)
        injected = await fault.begin(self._ground)
        self._timeline.note(f"  {fault.name}: {injected.what}")
        self._tale.faults[fault.name] += 1
        truth = None
        if fault.shows:
            truth = self._observer.must_show(fault.shows, fault.name, injected.holds)
        return fault, injected, truth

    async def _undo(self, fault: FaultKind, injected: Injected, truth: Truth | None) -> None:
        if truth is not None:
            self._observer.over(truth)
        await injected.undo()
        self._timeline.note(f"  {fault.name} is over")

    async def _recover(self, turn: Turn) -> None:
        limit = max(fault.recovers for fault in turn.faults)
        took = await self.until_well(limit)
        for fault in turn.faults:
            longest = self._tale.recoveries.get(fault.name, 0.0)
            self._tale.recoveries[fault.name] = max(longest, took)
        self._ground.stage.expect_champion()
        for window in {window for fault in turn.faults for window in fault.excuses}:
            self._timeline.close(window)

    async def until_well(self, limit: float) -> float:
        """Wait until all is well and the champion serves; the seconds that it took from now.

        The time in which the reading says that a version is on its way is not counted: how long MLflow
        takes to be imported is this machine's.

        Raises:
            TimeoutError: it never was.
        """
        began = before = time.monotonic()
        loading = 0.0
        while not (
            self._observer.is_well and self._serves_the_champion and self._observer.seen.asked >= began
        ):
            if time.monotonic() - began > limit + NEVER_SECONDS:
                raise TimeoutError(f"not well after {limit + NEVER_SECONDS:g} s: {self._observer.unwell()}")
            await asyncio.sleep(0.05)
            now = time.monotonic()
            loading, before = loading + (now - before) * self._observer.loads, now
        if (took := time.monotonic() - began - loading) > limit:
            self._timeline.violate("recovers in time", f"{took:.1f} s, not {limit:.1f} s")
        return took

    @property
    def _serves_the_champion(self) -> bool:
        return self._observer.served == self._ground.stage.registry.champion

    async def _count(self) -> None:
        """Count what the daemon holds while all is well. More than at its first calm is a leak."""
        await self._settle()
        found = await self._held()
        self._timeline.note(f"  calm: {found}")
        self._tale.first = self._tale.first or found
        self._tale.last = found
        if self._at_first_calm is None or self._at_first_calm[0] != self._ground.daemon.starts:
            self._at_first_calm = (self._ground.daemon.starts, found)
        for leak in leaks(self._at_first_calm[1], found, MORE):
            self._timeline.violate("no leak", leak)

    async def _settle(self) -> None:
        """Wait for a version that is on its way; nobody waits for one that the alias has left."""
        deadline = time.monotonic() + NEVER_SECONDS
        while not self._observer.is_settled and time.monotonic() < deadline:
            await asyncio.sleep(0.1)

    async def _held(self) -> Census:
        found = [census(self._ground.daemon.pid)]
        while len(found) < MOMENTS:
            await asyncio.sleep(0.1)
            found.append(census(self._ground.daemon.pid))
        return least(found)
