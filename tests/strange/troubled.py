"""Probes that do what probes should not; imported by name in the process where they do it."""

import asyncio
import contextlib
import ctypes
import datetime
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from mlopsd.probe import (
    Advice,
    Context,
    Finding,
    Metric,
    Options,
    Probe,
    ProbeError,
    Reading,
    ReloadRefused,
    Schedule,
    Status,
)

LOOKS = Metric("looks_total", "Times that it looked.", "counter")
WIDTH = Metric("width_meters", "How wide it is.", unit="meters", labels=("side",))


class TroubledOptions(Options):
    """*trouble* is the name of a method of `Troubled`; *path* a file for it to write to, or to wait for.

    With *well_first* the first check of each probe that is made is a good one.
    """

    trouble: str = "none"
    path: str = "/dev/null"
    well_first: bool = False
    times: tuple[datetime.datetime | datetime.date | datetime.time, ...] = ()
    anything: Any = None


class Wordless(Exception):
    def __str__(self) -> str:
        raise ValueError("no words")


class Troubled(Probe[TroubledOptions]):
    Options = TroubledOptions
    metrics = (LOOKS, WIDTH)
    schedule = Schedule(interval=0.2, timeout=20, fail_after=1, recover_after=1, critical=True)

    checks = 0

    def __init__(self, options: TroubledOptions, context: Context) -> None:
        super().__init__(options, context)
        if options.trouble == "ignores_sigterm":  # before anybody can lose patience
            signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def check(self) -> Reading:
        self.checks += 1
        well = self.options.well_first and self.checks == 1
        result: Any = getattr(self, "none" if well else self.options.trouble)()
        return result if result is not None else Reading()

    def reload(self, *, dry_run: bool, force: bool) -> str:
        if self.options.trouble == "reloads_slowly":
            self.wait_for_the_gate()
        if not force:
            raise ReloadRefused("it does not want to")
        return "would" if dry_run else "did"

    def measures(self) -> Reading:
        return replace(self.none(), samples=[WIDTH.sample(self.checks, side="left")])

    def none(self) -> Reading:
        return Reading(
            findings=[Finding("door", Status.HEALTHY, "the door is shut")],
            facts={"pid": os.getpid(), "checks": self.checks},
        )

    def reloads_slowly(self) -> Reading:
        return self.none()

    def looks_slowly(self) -> Reading:
        self.wait_for_the_gate()
        return self.none()

    def wait_for_the_gate(self) -> None:
        with Path(self.options.path + ".reached").open("x"):
            pass
        while not Path(self.options.path).exists():
            time.sleep(0.01)

    def tells_its_options(self) -> Reading:
        values = [*self.options.times, self.options.anything]
        return Reading(facts={"options": [f"{type(value).__name__} {value}" for value in values]})

    def logs_at_every_level(self) -> Reading:
        for say in (self.context.log.debug, self.context.log.info, self.context.log.warning):
            say("looked")
        return self.none()

    def raises(self) -> None:
        raise ZeroDivisionError("one over nought")

    def raises_without_words(self) -> None:
        raise Wordless

    def cannot_tell(self) -> None:
        raise ProbeError("cannot see the door: no light; bring a lamp")

    def cannot_tell_in_a_way_of_its_own(self) -> None:
        raise type("NoDoor", (ProbeError,), {})("there is no door; build one")

    def raises_a_namesake(self) -> None:
        raise type("ProbeError", (Exception,), {})("of another library")

    def nonsense(self) -> str:
        return "all is well"

    def wrong_parts(self) -> Reading:
        return Reading(["fine"], status=Status.HEALTHY, summary="fine")  # type: ignore[list-item]

    def hangs(self) -> None:
        time.sleep(3600)

    def hangs_once(self) -> Reading:
        if not Path(self.options.path).exists():
            with Path(self.options.path).open("x"):
                pass
            time.sleep(3600)
        return self.none()

    def breaks_and_hangs(self) -> Reading:
        """The first check of all finds what lasts; those after it hang until a file says that all is well."""
        if Path(self.options.path + ".mended").exists():
            return self.none()
        if not Path(self.options.path).exists():
            with Path(self.options.path).open("x"):
                return self.off_its_hinges()
        while not Path(self.options.path + ".mended").exists():
            time.sleep(0.01)
        return self.none()

    def breaks_and_cannot_tell(self) -> Reading:
        if self.checks == 1:
            return self.off_its_hinges()
        raise ProbeError("cannot see the door: no light; bring a lamp")

    def off_its_hinges(self) -> Reading:
        summary = "the door is off its hinges; replace it"
        advice = Advice.REPLACE_HARDWARE
        return Reading([Finding("hinges", Status.UNHEALTHY, summary, "door", advice=advice, lasting=True)])

    def ignores_sigterm(self) -> None:
        time.sleep(3600)

    def holds_the_gil(self) -> None:
        ctypes.PyDLL(None).sleep(3600)

    def exits(self) -> None:
        os._exit(7)

    def sys_exits(self) -> None:
        sys.exit(3)

    def is_interrupted(self) -> None:
        raise KeyboardInterrupt

    def is_cancelled(self) -> None:
        raise asyncio.CancelledError("by itself")

    def segfaults(self) -> None:
        ctypes.string_at(0)

    def prints(self) -> Reading:
        line = b"x" * 1023 + b"\n"
        for _ in range(1_000_000):
            os.write(1, line)
        return self.none()

    def says(self) -> Reading:
        print("hello from the child")
        self.context.log.info("looked", extra={"door": "shut"})
        self.context.instruments.counter(LOOKS).inc()
        return self.none()

    def leaks_a_child(self) -> Reading:
        subprocess.Popen(["sleep", "3600"])
        return self.none()

    def leaks_an_escapee(self) -> Reading:
        subprocess.Popen(["sleep", "3600"], start_new_session=True)
        return self.none()

    def leaks_and_hangs(self) -> None:
        subprocess.Popen(["sleep", "3601"], start_new_session=True)
        time.sleep(3600)

    def leaks_and_exits(self) -> None:
        subprocess.Popen(["sleep", "3602"], start_new_session=True)
        subprocess.Popen(["sleep", "3602"])
        os._exit(7)

    def leaks_many(self) -> Reading:
        for _ in range(40):
            subprocess.Popen(["sleep", "3600"])
        return self.none()

    def leaks_many_and_raises(self) -> None:
        self.leaks_many()
        self.raises()

    def leaks_zombies(self) -> Reading:
        self.ended = [subprocess.Popen(["true"]) for _ in range(40)]
        for process in self.ended:
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        return self.none()

    def leaves_an_orphan(self) -> Reading:
        subprocess.run(["sh", "-c", "sleep 0.05 &"])
        return self.none()

    def asks_late_how_its_process_ended(self) -> Reading:
        if self.checks == 1:
            self.process = subprocess.Popen(["sh", "-c", "exit 7"])
            os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT)
        ended = self.process.poll() if self.checks > 3 else None
        return Reading(facts={"exit_status": ended})

    def answers_hugely(self) -> Reading:
        return Reading(facts={"big": "x" * 10_000_000})

    def writes_on_the_channel(self) -> None:
        for name in os.listdir("/proc/self/fd"):  # noqa: PTH208  # numbers, not paths
            if int(name) > sys.stderr.fileno():
                with contextlib.suppress(OSError):
                    os.write(int(name), b"\xff" * 64)
        time.sleep(3600)

    def answers_for_us(self) -> Reading:
        from mlopsd.process import frames
        from mlopsd.worker import codec

        forged = {"reading": codec.Outgoing().frame(self.none()), "id": self.checks - 1, "children": 0}
        os.write(int(sys.argv[1]), frames.pack(forged))
        return self.none()

    def looks_around(self) -> Reading:
        names = [name for name in os.environ if name.startswith(("NOTIFY", "LISTEN", "MLOPSD_", "WATCHDOG"))]
        descriptors = len(os.listdir("/proc/self/fd"))  # noqa: PTH208  # its own descriptor counts
        return Reading(facts={"environment": names, "descriptors": descriptors, "pid": os.getpid()})


class Pointed(Troubled):
    """Says which of its keys it looks at."""

    subject = ("path",)


class SlowlyMade(Troubled):
    def __init__(self, options: TroubledOptions, context: Context) -> None:
        super().__init__(options, context)
        self.wait_for_the_gate()


class SlowToStart(Troubled):
    """Its process is longer in starting than a check may take."""

    schedule = Schedule(timeout=2, isolation="process", critical=True)

    def __init__(self, options: TroubledOptions, context: Context) -> None:
        super().__init__(options, context)
        time.sleep(2.3)


class SlowAtFirst(Troubled):
    """The first check in each process takes longer than a check may."""

    schedule = Schedule(timeout=1, isolation="process", critical=True)

    def check(self) -> Reading:
        if not self.checks:
            self.hangs()
        return super().check()


class AsyncTroubled(Probe[TroubledOptions]):
    Options = TroubledOptions
    schedule = Schedule(interval=0.2, timeout=20, fail_after=1, recover_after=1, critical=True)

    async def check(self) -> Reading:
        result: Any = await getattr(self, self.options.trouble)()
        return result if result is not None else Reading()

    async def none(self) -> Reading:
        await asyncio.sleep(0)
        return Reading(findings=[Finding("door", Status.HEALTHY, "the door is shut")])

    async def hangs(self) -> None:
        await asyncio.Event().wait()

    async def will_not_be_cancelled(self) -> None:
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                continue

    async def raises(self) -> None:
        raise ZeroDivisionError("one over nought")

    async def raises_without_words(self) -> None:
        raise Wordless

    async def nonsense(self) -> str:
        return "all is well"

    async def sys_exits(self) -> None:
        sys.exit(3)

    async def is_interrupted(self) -> None:
        raise KeyboardInterrupt

    async def is_closed(self) -> None:
        raise GeneratorExit

    async def is_cancelled(self) -> None:
        raise asyncio.CancelledError("by itself")

    async def cancels_itself(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel("by itself")
        await asyncio.sleep(0)
