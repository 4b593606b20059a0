"""Checks that run on the event loop: coroutines that only wait for the network."""

import asyncio
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from mlopsd.predictor import Predictor, PredictorOptions
from mlopsd.probe import Probe, Reading, Route, declared_routes
from mlopsd.threads import as_exception
from mlopsd.worker.validate import verified
from mlopsd.worker.worker import CLOSING_SECONDS


class Calling:
    """A probe's coroutine in a task of its own, so that it can be abandoned.

    Whatever it raises is its own: only a cancellation that was asked for here leaves it as one.
    """

    def __init__(self, name: str, call: Callable[[], Any]) -> None:
        self._call = call
        self._abandoned = False
        self.task = asyncio.get_running_loop().create_task(self._run(), name=name)
        self.task.add_done_callback(_look_at)

    async def result(self) -> Any:
        """Return its result; abandon it when cancelled."""
        try:
            await asyncio.wait({self.task})
        except asyncio.CancelledError:
            self.abandon()
            raise
        try:
            return self.task.result()
        except GeneratorExit as error:
            raise as_exception(error) from error

    def abandon(self) -> None:
        """Cancel it; it may go on all the same."""
        self._abandoned = True
        self.task.cancel()

    async def _run(self) -> Any:
        try:
            result = self._call()
            return await result if inspect.isawaitable(result) else result
        except (Exception, GeneratorExit):  # the latter is also how a coroutine is closed, and must pass then
            raise
        except BaseException as error:  # SystemExit in a task would end the loop
            if self._abandoned and isinstance(error, asyncio.CancelledError):
                raise
            raise as_exception(error) from error


class LoopWorker:
    """Runs a probe's coroutines as tasks; one that will not be cancelled is waited for, not repeated."""

    def __init__(self, name: str, make: Callable[[], Probe[Any]]) -> None:
        self._name = name
        self._make = make
        self._probe: Probe[Any] | None = None
        self._routes: Sequence[Route] | None = None
        self._check: Calling | None = None

    @property
    def predictor(self) -> Predictor | None:
        """The probe, if it predicts and has been made, which its first check does."""
        return self._probe if isinstance(self._probe, Predictor) else None

    @property
    def routes(self) -> Sequence[Route] | None:
        """Return the probe's own HTTP routes; None until it has been made, which its first check does."""
        return self._routes

    @property
    def stuck(self) -> str | None:
        """A coroutine that was cancelled and goes on."""
        if self._check is None or self._check.task.done():
            return None
        return "its last check was cancelled and has not ended; a coroutine must let CancelledError pass"

    def prepare(self) -> None:
        """There is nothing to begin: the probe is made by its first check."""

    async def check(self) -> Reading:
        """Run the coroutine in a task of its own, so that it can be abandoned."""
        self._check = self._start("check", lambda: self._made().check())
        return verified(await self._check.result())

    async def reload(self, *, dry_run: bool, force: bool) -> str:
        """Run the probe's own reload; checks go on beside it."""
        reloading = self._start("reload", lambda: self._made().reload(dry_run=dry_run, force=force))
        return str(await reloading.result())

    async def reconfigure(self, options: PredictorOptions) -> bool:
        """Let the probe, if it predicts and has been made, go on with *options*; return if it does."""
        if (predictor := self.predictor) is None:
            return False
        reconfiguring = self._start("reconfigure", lambda: predictor.reconfigure(options))
        return bool(await reconfiguring.result())

    async def close(self) -> None:
        """Cancel the check in flight and let the probe release what it holds."""
        if self._check is not None and not self._check.task.done():
            self._check.abandon()
            await asyncio.wait({self._check.task}, timeout=CLOSING_SECONDS)
        if self._probe is not None and self.stuck is None:
            closing = self._start("close", self._probe.close)
            await asyncio.wait({closing.task}, timeout=CLOSING_SECONDS)
            if closing.task.done():
                closing.task.result()

    def _made(self) -> Probe[Any]:
        if self._probe is None:
            self._probe = self._make()
        if self._routes is None:
            self._routes = declared_routes(self._probe)
        return self._probe

    def _start(self, verb: str, call: Callable[[], Any]) -> Calling:
        return Calling(f"{verb} {self._name}", call)


def _look_at(task: asyncio.Task[Any]) -> None:
    """Nobody may be left to ask an abandoned task how it ended; asyncio would complain of that."""
    if not task.cancelled():
        task.exception()
