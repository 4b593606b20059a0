"""Checks that run on the event loop: coroutines that only wait for the network."""

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

from mlopsd.probe import Probe, Reading
from mlopsd.worker.place import CLOSING_SECONDS
from mlopsd.worker.verify import verified


class LoopWorker:
    """Runs a probe's coroutines as tasks; one that will not be cancelled is waited for, not repeated."""

    def __init__(self, name: str, make: Callable[[], Probe[Any]]) -> None:
        self._name = name
        self._make = make
        self._probe: Probe[Any] | None = None
        self._task: asyncio.Task[Any] | None = None

    @property
    def stuck(self) -> str | None:
        """A coroutine that was cancelled and goes on."""
        if self._task is None or self._task.done():
            return None
        return "its last check was cancelled and has not ended; a coroutine must let CancelledError pass"

    def prepare(self) -> None:
        """There is nothing to begin: the probe is made by its first check."""

    async def check(self) -> Reading:
        """Run the coroutine in a task of its own, so that it can be abandoned."""
        self._task = self._start("check", self._made().check)
        try:
            await asyncio.wait({self._task})
        except asyncio.CancelledError:
            self._task.cancel()
            raise
        return verified(self._task.result())

    async def reload(self, *, dry_run: bool, force: bool) -> str:
        """Run the probe's own reload; checks go on beside it."""
        probe = self._made()
        return str(await self._start("reload", lambda: probe.reload(dry_run=dry_run, force=force)))

    async def close(self) -> None:
        """Cancel the check in flight and let the probe release what it holds."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=CLOSING_SECONDS)
        if self._probe is not None and self.stuck is None:
            closing = self._start("close", self._probe.close)
            await asyncio.wait({closing}, timeout=CLOSING_SECONDS)
            if closing.done():
                closing.result()

    def _made(self) -> Probe[Any]:
        if self._probe is None:
            self._probe = self._make()
        return self._probe

    def _start(self, verb: str, call: Callable[[], Any]) -> asyncio.Task[Any]:
        loop = asyncio.get_running_loop()
        task = loop.create_task(_awaited(call), name=f"{verb} {self._name}")
        task.add_done_callback(_look_at)
        return task


async def _awaited(call: Callable[[], Any]) -> Any:
    result = call()
    return await result if inspect.isawaitable(result) else result


def _look_at(task: asyncio.Task[Any]) -> None:
    """Nobody may be left to ask an abandoned task how it ended; asyncio would complain of that."""
    if not task.cancelled():
        task.exception()
