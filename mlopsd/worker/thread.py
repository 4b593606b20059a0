"""Checks that run in a thread of their own: plain functions that are cheap and safe, but may block."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from mlopsd.probe import Probe, Reading
from mlopsd.worker.place import CLOSING_SECONDS
from mlopsd.worker.verify import verified

Result = TypeVar("Result")


class Call(threading.Thread):
    """One blocking call in a daemon thread, which the exit of the process does not wait for.

    ``asyncio.to_thread`` would: ``asyncio.run`` joins the default executor (28.3 s to stop with one
    call hung, against 0.27 s this way).
    """

    def __init__(self, name: str, function: Callable[[], Any]) -> None:
        super().__init__(name=name, daemon=True)
        self._function = function
        self._loop = asyncio.get_running_loop()
        self.answer: asyncio.Future[Any] = self._loop.create_future()
        self.start()

    def run(self) -> None:
        """Make the call and hand what came of it to the loop."""
        try:
            result, error = self._function(), None
        except BaseException as raised:  # noqa: BLE001  # SystemExit in a stranger's thread is a result too
            result, error = None, raised
        try:
            self._loop.call_soon_threadsafe(self._deliver, result, error)
        except RuntimeError:  # the loop is closed: the daemon has stopped without us
            return

    def _deliver(self, result: Any, error: BaseException | None) -> None:
        if self.answer.done():
            return
        if error is None:
            self.answer.set_result(result)
        elif isinstance(error, Exception) and not isinstance(error, StopIteration):
            self.answer.set_exception(error)
        else:  # a future cannot carry StopIteration, and SystemExit would end the loop
            self.answer.set_exception(RuntimeError(f"{type(error).__name__}: {error}"))


async def in_thread(name: str, function: Callable[[], Result]) -> Result:
    """*function*'s result, computed in a daemon thread called *name*."""
    result: Result = await Call(name, function).answer
    return result


class ThreadWorker:
    """Runs a probe's calls in daemon threads, one at a time; a hung one is waited for, not repeated."""

    def __init__(self, name: str, make: Callable[[], Probe[Any]]) -> None:
        self._name = name
        self._make = make
        self._probe: Probe[Any] | None = None
        self._call: Call | None = None

    @property
    def stuck(self) -> str | None:
        """A call that was abandoned and has not come back."""
        if self._call is None or not self._call.is_alive() or not self._call.answer.cancelled():
            return None
        return "its last call has not come back; a probe that can hang belongs in a process"

    def prepare(self) -> None:
        """There is nothing to begin: the probe is made by its first check."""

    async def check(self) -> Reading:
        """Make the call; its reading is looked over in the thread, off the loop."""
        return await self._run("check", lambda: verified(self._made().check()))

    async def reload(self, *, dry_run: bool, force: bool) -> str:
        """Run the probe's own reload."""
        return await self._run("reload", lambda: str(self._made().reload(dry_run=dry_run, force=force)))

    async def close(self) -> None:
        """Let the probe release what it holds, unless a call of it still hangs."""
        probe, busy = self._probe, self._call is not None and self._call.is_alive()
        if probe is not None and not busy:
            try:
                await asyncio.wait_for(in_thread(f"close {self._name}", probe.close), CLOSING_SECONDS)
            except TimeoutError:
                return

    async def _run(self, verb: str, function: Callable[[], Result]) -> Result:
        self._call = Call(f"{verb} {self._name}", function)
        result: Result = await self._call.answer
        return result

    def _made(self) -> Probe[Any]:
        if self._probe is None:
            self._probe = self._make()
        return self._probe
