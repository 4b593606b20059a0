"""Probes that a stranger might write, for the command line to meet."""

import asyncio
import contextlib
import os
import time
from pathlib import Path

from mlopsd.probe import (
    Advice,
    Finding,
    Metric,
    Options,
    Probe,
    Reading,
    ReloadRefused,
    Sample,
    Schedule,
    Status,
)

WELL = Finding("door", Status.HEALTHY, "the door is shut")
ILL = Finding("door", Status.DEGRADED, "the door | is open", "front", advice=Advice.WATCH)
LOST = Finding("wall", Status.UNHEALTHY, "the wall is gone", advice=Advice.REBOOT)


class Secretive(Options):
    """Options with something to hide."""

    password: str = ""
    servers: tuple[str, ...] = ()
    limit: float | None = None


class Fine(Probe[Secretive]):
    """All is well here."""

    Options = Secretive
    schedule = Schedule(critical=True)

    def check(self) -> Reading:
        return Reading([WELL])


class Place(Options):
    """A file to make, or to wait for."""

    path: Path


class Closes(Probe[Place]):
    """Makes its file when it is closed."""

    Options = Place
    schedule = Schedule(isolation="process", critical=True)

    def check(self) -> Reading:
        return Reading([WELL])

    def close(self) -> None:
        self.options.path.touch()


class Open(Probe):
    schedule = Schedule(critical=True)

    def check(self) -> Reading:
        return Reading([WELL, ILL])


class Gone(Probe):
    schedule = Schedule(critical=True)

    def check(self) -> Reading:
        return Reading([ILL, LOST])


class Raises(Probe):
    schedule = Schedule(critical=True)

    def check(self) -> Reading:
        raise ZeroDivisionError("one over nought")


class Undeclared(Probe):
    """Reports more than it declares."""

    metrics = (Metric("doors", "Doors."), Metric("walls", "Walls.", labels=("side",)))

    schedule = Schedule(critical=True)

    def check(self) -> Reading:
        samples = [Sample("doors", 2), Sample("windows", 3), Sample("walls", 4)]
        return Reading([WELL], samples=samples)


class Hangs(Probe):
    schedule = Schedule(timeout=0.3, critical=True)

    def check(self) -> Reading:
        time.sleep(3600)
        return Reading()


class HangsInProcess(Hangs):
    schedule = Schedule(timeout=0.3, isolation="process", critical=True)


class Dies(Probe):
    schedule = Schedule(isolation="process", critical=True)

    def check(self) -> Reading:
        os._exit(7)


class Blocks(Probe):
    """A coroutine that blocks, which no coroutine may."""

    schedule = Schedule(timeout=0.3, critical=True)

    async def check(self) -> Reading:
        time.sleep(3600)  # noqa: ASYNC251  # that is the point
        return Reading()


class Ignores(Probe):
    """A coroutine that goes on when it is cancelled, which no coroutine may."""

    schedule = Schedule(timeout=0.3, critical=True)

    async def check(self) -> Reading:
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(3600)


class Reloads(Probe[Place]):
    """Takes until its file is there to reload, a minute at most, and says how far it is."""

    Options = Place
    schedule = Schedule(interval=0.1, isolation="loop", critical=True)
    progress = ""
    asked = 0

    async def check(self) -> Reading:
        facts = {"progress": self.progress} if self.progress else {}
        return Reading([WELL], facts=facts)

    async def reload(self, *, dry_run: bool, force: bool) -> str:
        self.asked += 1
        for part in range(150):
            self.progress = f"fetching {part} of 150 GB"
            await asyncio.sleep(0.4)
            if self.options.path.exists():
                break
        self.progress = ""
        if self.asked > 1:
            raise ReloadRefused("once is enough; start anew")
        return "went to version 4"


TURNS = Metric("turns_total", "Turns of the handle.", kind="counter", labels=("hand",))
HEAT = Metric("heat_celsius", "Heat of the handle.", unit="celsius", labels=("side",))
PULLS = Metric("pull_seconds", "Duration of a pull.", kind="histogram", unit="seconds", buckets=(1.0,))


class Measures(Probe):
    """Has one metric of each kind."""

    metrics = (TURNS, HEAT, PULLS)
    schedule = Schedule(critical=True)

    def check(self) -> Reading:
        self.context.instruments.counter(TURNS).inc(2, hand="left")
        self.context.instruments.histogram(PULLS).observe(0.5)
        return Reading([WELL], samples=[HEAT.sample(21.5, side='the "warm" one'), Sample("windows", 3)])


class MeasuresInProcess(Measures):
    schedule = Schedule(isolation="process", critical=True)


class Debugged(Probe):
    """Stops in a debugger, longer than its timeout allows."""

    schedule = Schedule(timeout=0.3, isolation="process", critical=True)

    def check(self) -> Reading:
        answer = asyncio.run(asyncio.sleep(0, 6 * 7))  # as a plain check may
        breakpoint()  # that is the point
        return Reading([Finding("door", Status.HEALTHY, f"the answer is {answer}")])
