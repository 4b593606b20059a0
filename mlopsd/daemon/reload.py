"""Reloads of the configuration: one at a time, each told to whoever asked, to the log and in ``/info``."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Protocol

from mlopsd.config.errors import ConfigIssue, ConfigurationError

STOPPING = ConfigIssue("reload", "the daemon is stopping; start it again, it reads the configuration then")
log = logging.getLogger("mlopsd.daemon")


class Surroundings(Protocol):
    """The parts of the daemon that reloads need."""

    def reloading(self) -> None:
        """A reload begins."""

    def in_force(self) -> None:
        """A reload has put a configuration in force."""

    def refused(self, *, broke: bool) -> None:
        """A reload has changed nothing; *broke* is whether the fault is mlopsd's."""

    def reloaded(self) -> None:
        """A reload has ended, well or not."""


class ConfigReloads:
    """Has *change* read the configuration and put it in force, which gives a sentence for each change.

    Attributes:
        at: when the last reload ended; None before the first.
        error: why the last one changed nothing; None if it was well.
    """

    def __init__(
        self,
        change: Callable[[], Awaitable[list[str]]],
        around: Surroundings,
        now: Callable[[], datetime],
    ) -> None:
        self._change = change
        self._around = around
        self._now = now
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[list[str]]] = set()
        self.at: datetime | None = None
        self.error: str | None = None

    @asynccontextmanager
    async def put_off(self) -> AsyncIterator[None]:
        """Whoever asks meanwhile waits until the end of it."""
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
            self._around.reloading()
            try:
                changes = await self._reported()
            finally:
                self.at = self._now()
                self._around.reloaded()
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
        self.error = None
        self._around.in_force()
        return changes

    def _failed(self, error: ConfigurationError, fault: Exception | None = None) -> None:
        self.error = str(error)
        self._around.refused(broke=fault is not None)
        extra = {"mistakes": list(map(str, error.mistakes))}
        log.error("configuration not reloaded", extra=extra, exc_info=fault)
