"""Probes of authors who made one mistake each; found through the metadata beside this file."""

import asyncio
import ctypes
import datetime
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from mlopsd.probe import (
    Context,
    Finding,
    HttpRequest,
    HttpResponse,
    Metric,
    Options,
    Probe,
    Reading,
    Route,
    Schedule,
    Status,
)

LEVEL = Metric("level_ratio", "How full it is.", unit="ratio")
QUICK = Schedule(interval=60, timeout=5)
APART = Schedule(interval=60, timeout=5, isolation="process")
WELL = Finding("door", Status.HEALTHY, "the door is shut")


class Good(Probe):
    """It is as it should be."""

    schedule = QUICK

    def check(self) -> Any:
        return Reading([WELL])


class Patient(Good):
    """It counts on a timeout."""

    schedule = APART

    def check(self) -> Any:
        int(self.context.timeout * 0.8)  # of an infinite one that is an error
        return Reading([WELL])


class Segfaults(Good):
    """It crashes where it runs."""

    schedule = APART

    def check(self) -> Any:
        ctypes.string_at(0)


class Exits(Good):
    """It ends its process."""

    schedule = APART

    def check(self) -> Any:
        os._exit(3)


class CrashesWhenMade(Good):
    """Its constructor ends its process."""

    schedule = APART

    def __init__(self, options: Options, context: Context) -> None:
        super().__init__(options, context)
        os._exit(3)


class Hangs(Good):
    """It never comes back."""

    schedule = Schedule(interval=60, timeout=1, isolation="process")

    def check(self) -> Any:
        time.sleep(3600)


class HangsInAThread(Hangs):
    """The same in a thread."""

    schedule = Schedule(interval=60, timeout=1)


class HangsWhenMade(Good):
    """Its constructor never comes back."""

    schedule = Schedule(interval=60, timeout=1)

    def __init__(self, options: Options, context: Context) -> None:
        super().__init__(options, context)
        time.sleep(3600)


class Swallows(Probe):
    """It goes on when it is cancelled."""

    schedule = Schedule(interval=60, timeout=1)

    async def check(self) -> Reading:
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                continue


class Blocks(Probe):
    """Its coroutine sleeps."""

    schedule = QUICK

    async def check(self) -> Reading:
        time.sleep(2)  # noqa: ASYNC251  # the mistake
        return Reading([WELL])


class BlocksForEver(Probe):
    """Its coroutine sleeps for ever."""

    schedule = Schedule(interval=60, timeout=1)

    async def check(self) -> Reading:
        time.sleep(3600)  # noqa: ASYNC251  # the mistake
        return Reading([WELL])


class ReloadWithoutArguments(Good):
    """Its reload takes nothing."""

    def reload(self) -> str:  # type: ignore[override]
        return "reloaded"


class ReloadAsync(Good):
    """Its reload is a coroutine beside a plain check."""

    async def reload(self, *, dry_run: bool, force: bool) -> str:
        return "reloaded"


class ReloadRaises(Good):
    """Its reload fails."""

    def reload(self, *, dry_run: bool, force: bool) -> str:
        raise KeyError("x")


class ReloadNone(Good):
    """Its reload says nothing."""

    def reload(self, *, dry_run: bool, force: bool) -> Any:
        return None


class CloseAsync(Good):
    """Its close is a coroutine beside a plain check."""

    async def close(self) -> None:
        pass


class RoutesAsync(Good):
    """Its routes are a coroutine."""

    async def routes(self) -> Sequence[Route]:  # type: ignore[override]
        return ()


class YieldsFindings(Good):
    """Its findings are a generator."""

    def check(self) -> Any:
        return Reading(WELL for _ in range(2))  # type: ignore[arg-type]


class OneFinding(Good):
    """It forgets the brackets."""

    def check(self) -> Any:
        return Reading(WELL)  # type: ignore[arg-type]


class ReturnsACoroutine(Good):
    """Its plain check returns a coroutine."""

    def check(self) -> Any:
        return self.really_check()

    async def really_check(self) -> Reading:
        return Reading([WELL])


class NoName(Good):
    """Its finding has no name."""

    def check(self) -> Any:
        return Reading([Finding("", Status.HEALTHY, "the door is shut")])


class Endless(Good):
    """Its summary is a file."""

    def check(self) -> Any:
        return Reading([Finding("door", Status.HEALTHY, "x" * 5_000_000)])


class FactsOfThemselves(Good):
    """Its facts are circular."""

    def check(self) -> Any:
        facts: dict[str, Any] = {}
        facts["facts"] = facts
        return Reading([WELL], facts=facts)


class MadeByNobody(Good):
    """Its class returns nothing."""

    def __new__(cls, *_arguments: object) -> Any:
        return None


class FactsOfObjects(Good):
    """Its facts are no JSON."""

    def check(self) -> Any:
        return Reading([WELL], facts={"door": object()})


class FactsTooLarge(Good):
    """Its facts are over the limit."""

    def check(self) -> Any:
        return Reading([WELL], facts={"door": "x" * 300_000})


class NaiveTime(Good):
    """Its time has no zone."""

    def check(self) -> Any:
        opened = datetime.datetime(2026, 1, 2)  # noqa: DTZ001  # the mistake
        return Reading([WELL], facts={"doors": [{"opened": opened}]})


class SecretOptions(Options):
    token: SecretStr


class TellsASecret(Probe[SecretOptions]):
    """It shows its token."""

    Options = SecretOptions
    schedule = QUICK

    def check(self) -> Reading:
        return Reading([WELL], facts={"headers": {"token": self.options.token.get_secret_value()}})


class LongerThanItsInterval(Good):
    """A check may overlap the next one."""

    schedule = Schedule(interval=5, timeout=10)


class WorseThanItsFindings(Good):
    """Its status has no reason."""

    def check(self) -> Any:
        return Reading([WELL], status=Status.UNHEALTHY)


class Rambles(Good):
    """Its summary is a report."""

    def check(self) -> Any:
        return Reading([Finding("door", Status.HEALTHY, "shut " * 1000)])


class Prints(Good):
    """It prints in a thread."""

    def check(self) -> Any:
        print("the door is shut")
        return Reading([WELL])


class PrintsApart(Prints):
    """It prints in a process."""

    schedule = APART


class SamplesTwice(Good):
    """It reports one series twice."""

    metrics = (LEVEL,)

    def check(self) -> Any:
        return Reading([WELL], [LEVEL.sample(0.5), LEVEL.sample(0.6)])


class SamplesText(Good):
    """It reports a text."""

    metrics = (LEVEL,)

    def check(self) -> Any:
        return Reading([WELL], [LEVEL.sample("7")])  # type: ignore[arg-type]


class ExitsInAThread(Good):
    """It calls sys.exit."""

    def check(self) -> Any:
        sys.exit(3)


class Looped(Probe):
    """It uses the loop when it is made."""

    schedule = APART

    def __init__(self, options: Options, context: Context) -> None:
        super().__init__(options, context)
        self.loop = asyncio.get_running_loop()

    async def check(self) -> Reading:
        assert self.loop is asyncio.get_running_loop()
        return Reading([WELL])


class RoutesApart(Good):
    """Its routes cannot be reached in its process."""

    schedule = APART

    def routes(self) -> Sequence[Route]:
        return [Route("POST", "/open", self.open, "Open the door")]

    async def open(self, _request: HttpRequest) -> HttpResponse:
        return HttpResponse()


class PathOptions(Options):
    path: str


class Reads(Probe[PathOptions]):
    """It reads a file that the test makes."""

    Options = PathOptions
    schedule = QUICK

    def check(self) -> Reading:
        return Reading([Finding("door", Status.HEALTHY, Path(self.options.path).read_text("utf-8"))])
