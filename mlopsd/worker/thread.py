"""Checks that run in a thread of their own: plain functions that are cheap and safe, but may block."""

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from mlopsd.predictor import PredictorOptions
from mlopsd.probe import Probe, Reading, Route, declared_routes
from mlopsd.threads import Call
from mlopsd.worker.validate import verified
from mlopsd.worker.worker import CLOSING_SECONDS

Result = TypeVar("Result")


class Lane(threading.Thread):
    """A daemon thread that makes the calls of one probe, one after another, until it is told to end.

    The kernel keeps the children of each thread apart. So a process that a probe has started here and
    has not waited for yet is not taken for an orphan (see `mlopsd.process.reaper`).
    """

    def __init__(self, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._calls: queue.SimpleQueue[Call | None] = queue.SimpleQueue()
        self.start()

    def run(self) -> None:
        """Make each call as it comes."""
        while (call := self._calls.get()) is not None:
            call.make()

    def begin(self, function: Callable[[], Any]) -> Call:
        """The call of *function*, which is made after those before it."""
        call = Call(function)
        self._calls.put(call)
        return call

    def end(self) -> None:
        """End once every call has come back; nobody waits for that."""
        self._calls.put(None)


class ThreadWorker:
    """Runs a probe's calls in a daemon thread, one at a time; a hung one is waited for, not repeated."""

    predictor = None

    def __init__(self, name: str, make: Callable[[], Probe[Any]]) -> None:
        self._name = name
        self._make = make
        self._probe: Probe[Any] | None = None
        self._routes: Sequence[Route] | None = None
        self._lane: Lane | None = None
        self._call: Call | None = None

    @property
    def routes(self) -> Sequence[Route] | None:
        """Return the probe's own HTTP routes; None until it has been made, which its first check does."""
        return self._routes

    @property
    def stuck(self) -> str | None:
        """A call that was abandoned and has not come back."""
        if self._call is None or self._call.returned or not self._call.answer.cancelled():
            return None
        return "its last call has not come back; a probe that can hang belongs in a process"

    def prepare(self) -> None:
        """There is nothing to begin: the probe is made by its first check."""

    async def check(self) -> Reading:
        """Make the call; its reading is looked over in the thread, off the loop."""
        return await self._run(lambda: verified(self._made().check()))

    async def reload(self, *, dry_run: bool, force: bool) -> str:
        """Run the probe's own reload."""
        return await self._run(lambda: str(self._made().reload(dry_run=dry_run, force=force)))

    async def reconfigure(self, _options: PredictorOptions) -> bool:
        """Return False: a predictor runs on the loop."""
        return False

    async def close(self) -> None:
        """Let the probe release what it holds, unless a call of it still hangs; the thread ends by itself."""
        if self._lane is None:
            return
        try:
            if self._probe is not None and (self._call is None or self._call.returned):
                await asyncio.wait_for(self._run(self._probe.close), CLOSING_SECONDS)
        except TimeoutError:
            return
        finally:
            self._lane.end()

    async def _run(self, function: Callable[[], Result]) -> Result:
        if self._lane is None:
            self._lane = Lane(f"probe {self._name}")
        self._call = self._lane.begin(function)
        result: Result = await self._call.answer
        return result

    def _made(self) -> Probe[Any]:
        if self._probe is None:
            self._probe = self._make()
        if self._routes is None:
            self._routes = declared_routes(self._probe)
        return self._probe
