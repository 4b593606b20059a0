"""Reloads of the configuration: one at a time, each told to whoever asked, to the log and in ``/info``."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from mlopsd.config.errors import ConfigIssue, ConfigurationError
from mlopsd.daemon.systemd import Notifier, status_line
from mlopsd.web.context import WebContext

STOPPING = ConfigIssue("reload", "the daemon is stopping; start it again, it reads the configuration then")
log = logging.getLogger("mlopsd.daemon")


class ConfigReloads:
    """Reloads of the configuration by *change*, which returns a sentence for each change.

    How each ended is in the context's info, in the metrics, and told to the service manager.
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
        """Let every reload that is asked for meanwhile wait until the end."""
        async with self._turn:
            yield

    async def ask(self) -> list[str]:
        """Reload, after those who asked before; what changed, in sentences.

        Raises:
            ConfigurationError: it cannot be used, and nothing was changed; or the daemon is stopping.
        """
        task = self.begin()
        await asyncio.wait({task})  # a caller that goes away does not leave it half done
        if task.cancelled():
            raise ConfigurationError([STOPPING])
        return task.result()

    def begin(self) -> asyncio.Task[list[str]]:
        """Reload; of SIGHUP, which ends here too, only the log, the status line and /info are told."""
        task = asyncio.get_running_loop().create_task(self._in_turn(), name="reload")
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def end(self) -> None:
        """Give up those under way."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(set(self._tasks))

    def _ended(self, task: asyncio.Task[list[str]]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # it is told already, and asyncio complains where nobody looks

    async def _in_turn(self) -> list[str]:
        async with self._turn:
            self._notifier.reloading()
            try:
                changes = await self._reported()
            finally:
                self._note(reloaded_at=self._context.board.now())
                self._notifier.reloaded(status_line(self._context))
            log.info("configuration reloaded", extra={"changes": changes})
            return changes

    async def _reported(self) -> list[str]:
        try:
            changes = await self._change()
        except ConfigurationError as error:
            self._failed(error)
            raise
        except Exception as error:  # a reload that breaks must not end what watches this host
            complaint = f"broke in mlopsd ({type(error).__name__}: {error}); report what its log says"
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
        extra = {"mistakes": list(map(str, error.mistakes))}
        log.error("configuration not reloaded", extra=extra, exc_info=fault)

    def _note(self, **changed: Any) -> None:
        self._context.info = replace(self._context.info, **changed)
