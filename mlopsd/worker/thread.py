"""The worker in a thread, for plain check functions that are cheap and safe but may block."""

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from contextvars import copy_context
from typing import Any, TypeVar

from mlopsd.log import PROBE
from mlopsd.predictor import PredictorOptions
from mlopsd.probe import Probe, Reading, Route
from mlopsd.threads import Call
from mlopsd.worker.loop_use import LoopUse
from mlopsd.worker.mask import SecretMask
from mlopsd.worker.routes import guarded_routes
from mlopsd.worker.validate import answered, distinct, plain, verified
from mlopsd.worker.worker import CLOSING_SECONDS

Result = TypeVar("Result")


class Lane(threading.Thread):
    """A daemon thread that makes the calls of one probe, one after another, until `end`.

    The kernel keeps a separate list of children per thread. So the reaper of orphans does not touch a process
    that a probe has started here and has not waited for (see `mlopsd.process.reaper`).
    """

    def __init__(self, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._calls: queue.SimpleQueue[Call | None] = queue.SimpleQueue()
        self.start()

    def run(self) -> None:
        """Make each call from the queue."""
        while (call := self._calls.get()) is not None:
            call.make()

    def begin(self, function: Callable[[], Any]) -> Call:
        """Queue a call of *function* after the earlier ones, and return it."""
        call = Call(function)
        self._calls.put(call)
        return call

    def end(self) -> None:
        """End the thread after the last call, without waiting for it."""
        self._calls.put(None)


class ThreadWorker:
    """The worker of a probe in a daemon thread, with one call at a time. A hung call blocks the next."""

    predictor = None

    def __init__(self, name: str, make: Callable[[], Probe[Any]], mask: SecretMask | None = None) -> None:
        self.loop_use = LoopUse(name)  # of its routes
        self._mask = mask or SecretMask()
        self._name = name
        self._make = make
        self._probe: Probe[Any] | None = None
        self._routes: Sequence[Route] | None = None
        self._lane: Lane | None = None
        self._call: Call | None = None

    @property
    def routes(self) -> Sequence[Route] | None:
        """Return the probe's own HTTP routes, or None before the first check made it."""
        return self._routes

    @property
    def stuck(self) -> str | None:
        """Return why no call can start: an abandoned one has not returned. Otherwise return None."""
        if self._call is None or self._call.returned or not self._call.answer.cancelled():
            return None
        return "its last call has not returned; a probe that can hang belongs in a process"

    def prepare(self) -> None:
        """Do nothing: the first check makes the probe."""

    async def check(self) -> Reading:
        """Run one check. The thread validates the reading too, off the event loop."""
        return await self._run(lambda: distinct(verified(plain("check", self._made().check()))))

    async def reload(self, *, dry_run: bool, force: bool) -> str:
        """Run the probe's own reload."""

        def reload() -> str:
            return answered(plain("reload", self._made().reload(dry_run=dry_run, force=force)))

        return await self._run(reload)

    async def reconfigure(self, _options: PredictorOptions) -> bool:
        """Return False: a predictor runs on the loop."""
        return False

    async def close(self) -> None:
        """Close the probe unless a call of it hangs; the thread then ends by itself."""
        self.loop_use.close()
        if self._lane is None:
            return
        try:
            if self._probe is not None and (self._call is None or self._call.returned):
                await asyncio.wait_for(self._run(self._close), CLOSING_SECONDS)
        except TimeoutError:
            return
        finally:
            self._lane.begin(self._release)
            self._lane.end()

    def _close(self) -> None:
        plain("close", self._made().close())

    def _release(self) -> None:
        """Drop the probe in its thread: its finalizer may hang too."""
        self._probe = self._routes = None

    async def _run(self, function: Callable[[], Result]) -> Result:
        if self._lane is None:
            self._lane = Lane(f"probe {self._name}")
        context = copy_context()
        context.run(PROBE.set, self._name)
        self._call = context.run(self._lane.begin, function)
        result: Result = await self._call.answer
        return result

    def _made(self) -> Probe[Any]:
        if self._probe is None:
            self._probe = self._make()
        if self._routes is None:
            self._routes = guarded_routes(self._probe, self.loop_use, self._mask)
        return self._probe
