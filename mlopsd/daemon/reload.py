"""Reloads of the configuration: one at a time, reported to the caller, in the log and in ``/info``."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from mlopsd.config.errors import ConfigIssue, ConfigurationError
from mlopsd.daemon.systemd import Notifier, status_line
from mlopsd.web.context import WebContext

STOPPING = ConfigIssue("reload", "the daemon is stopping; start it again to read the configuration")
log = logging.getLogger("mlopsd.daemon")


class ConfigReloads:
    """Reloads of the configuration by *change*, which returns a sentence for each change.

    The result of each is in the context's info and in the metrics, and goes to the service manager.
    """

    def __init__(
        self, change: Callable[[], Awaitable[list[str]]], context: WebContext, notifier: Notifier
    ) -> None:
        self._change = change
        self._context = context
        self._notifier = notifier
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[list[str]]] = set()

    @asynccontextmanager
    async def put_off(self) -> AsyncIterator[None]:
        """Delay every reload until the end of the block."""
        async with self._turn:
            yield

    async def ask(self) -> list[str]:
        """Reload after the earlier requests, and return a sentence for each change.

        Raises:
            ConfigurationError: The configuration is invalid and nothing has changed, or the daemon is
                stopping.
        """
        task = self.begin()
        await asyncio.wait({task})  # a caller that disconnects does not interrupt it
        if task.cancelled():
            raise ConfigurationError([STOPPING])
        return task.result()

    def begin(self) -> asyncio.Task[list[str]]:
        """Start a reload and return its task. SIGHUP uses it too; the log and ``/info`` have the result."""
        task = asyncio.get_running_loop().create_task(self._in_turn(), name="reload")
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def end(self) -> None:
        """Cancel the reloads in progress and wait for them."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(set(self._tasks))

    def _ended(self, task: asyncio.Task[list[str]]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # already logged; asyncio would report it once more

    async def _in_turn(self) -> list[str]:
        async with self._turn:
            self._notifier.reloading()
            try:
                changes = await self._reported()
            finally:
                self._note(reloaded_at=self._context.board.now())
                self._notifier.reloaded(status_line(self._context))
            log.info("configuration reloaded", extra={"changes": changes, "history": True})
            return changes

    async def _reported(self) -> list[str]:
        try:
            changes = await self._change()
        except ConfigurationError as error:
            self._failed(error)
            raise
        except Exception as error:  # a bug in a reload must not end the daemon
            complaint = f"failed by a bug in mlopsd ({type(error).__name__}: {error}); report it with the log"
            broken = ConfigurationError([ConfigIssue("reload", complaint)])
            self._failed(broken, error)
            raise broken from error
        self._note(reload_error=None)
        self._context.metrics.configured(self._context.board.now())
        return changes

    def _failed(self, error: ConfigurationError, fault: Exception | None = None) -> None:
        self._note(reload_error=str(error))
        self._context.metrics.not_configured()
        if fault is not None:
            self._context.metrics.error("reload")
        extra = {"mistakes": list(map(str, error.mistakes)), "history": True}
        log.error("configuration not reloaded", extra=extra, exc_info=fault)

    def _note(self, **changed: Any) -> None:
        self._context.info = replace(self._context.info, **changed)
