"""The worker on the event loop, for coroutines that only wait for the network."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from mlopsd.predictor import Predictor, PredictorOptions
from mlopsd.probe import Probe, Reading, Route
from mlopsd.threads import as_exception
from mlopsd.worker.loop_use import LoopUse
from mlopsd.worker.mask import SecretMask
from mlopsd.worker.routes import guarded_routes
from mlopsd.worker.validate import answered, distinct, verified
from mlopsd.worker.worker import CLOSING_SECONDS


class Calling:
    """A probe's coroutine in a task of its own, so that it can be abandoned.

    A `CancelledError` stays one only after `abandon`. Any other becomes an ordinary exception of the probe.
    """

    def __init__(self, name: str, call: Callable[[], Awaitable[Any]]) -> None:
        self._call = call
        self._abandoned = False
        self.task = asyncio.get_running_loop().create_task(self._run(), name=name)
        self.task.add_done_callback(_consume_exception)

    async def result(self) -> Any:
        """Return its result. If the caller is cancelled, abandon it, and wait a moment for its end."""
        try:
            await asyncio.wait({self.task})
        except asyncio.CancelledError:
            self.abandon()
            await asyncio.wait({self.task}, timeout=CLOSING_SECONDS / 2)
            raise
        try:
            return self.task.result()
        except GeneratorExit as error:
            raise as_exception(error) from error

    def abandon(self) -> None:
        """Cancel it. A coroutine that suppresses `CancelledError` keeps running."""
        self._abandoned = True
        self.task.cancel()

    async def _run(self) -> Any:
        try:
            return await self._call()
        except (Exception, GeneratorExit):  # GeneratorExit also closes a coroutine, and must pass then
            raise
        except BaseException as error:  # SystemExit in a task would end the loop
            if self._abandoned and isinstance(error, asyncio.CancelledError):
                raise
            raise as_exception(error) from error


class LoopWorker:
    """The worker of a probe's coroutines. While a cancelled check keeps running, no other starts."""

    def __init__(self, name: str, make: Callable[[], Probe[Any]], mask: SecretMask | None = None) -> None:
        self.loop_use = LoopUse(name)
        self._mask = mask or SecretMask()
        self._name = name
        self._make = make
        self._probe: Probe[Any] | None = None
        self._routes: Sequence[Route] | None = None
        self._check: Calling | None = None

    @property
    def predictor(self) -> Predictor | None:
        """Return the probe if it predicts, or None before the first check made it."""
        return self._probe if isinstance(self._probe, Predictor) else None

    @property
    def routes(self) -> Sequence[Route] | None:
        """Return the probe's own HTTP routes, or None before the first check made it."""
        return self._routes

    @property
    def stuck(self) -> str | None:
        """Return why no check can start: a cancelled one keeps running. Otherwise return None."""
        if self._check is None or self._check.task.done():
            return None
        return "its last check was cancelled and has not ended; a coroutine must let CancelledError pass"

    def prepare(self) -> None:
        """Do nothing: the first check makes the probe."""

    async def check(self) -> Reading:
        """Run the coroutine in a task of its own, so that it can be abandoned."""
        self._check = self._start("check", lambda: self._made().check())
        return distinct(verified(await self._check.result()))

    async def reload(self, *, dry_run: bool, force: bool) -> str:
        """Run the probe's own reload, while checks continue."""
        reloading = self._start("reload", lambda: self._made().reload(dry_run=dry_run, force=force))
        return answered(await reloading.result())

    async def reconfigure(self, options: PredictorOptions) -> bool:
        """Apply *options* to a probe that predicts and has been made; return whether it did."""
        if (predictor := self.predictor) is None:
            return False
        reconfiguring = self._start("reconfigure", lambda: predictor.reconfigure(options))
        return bool(await reconfiguring.result())

    async def close(self) -> None:
        """Cancel the check in flight and close the probe."""
        self.loop_use.close()
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
            self._routes = guarded_routes(self._probe, self.loop_use, self._mask)
        return self._probe

    def _start(self, verb: str, call: Callable[[], Any]) -> Calling:
        return Calling(f"{verb} {self._name}", partial(self.loop_use.call, verb, call))


def _consume_exception(task: asyncio.Task[Any]) -> None:
    """Retrieve the exception of an abandoned task, so that asyncio does not report it as lost."""
    if not task.cancelled():
        task.exception()
