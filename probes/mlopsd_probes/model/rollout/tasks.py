"""The tasks and timers of one model: each with a name, and a fault of ours in one is told and not lost."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from typing import Any

from mlopsd.probe import ReloadRefused


class TaskSet:
    """Starts tasks for *model*; *broke* is told what was done where one ends by a fault, and by which."""

    def __init__(self, model: str, log: logging.Logger, broke: Callable[[str, str], None]) -> None:
        self._model = model
        self._log = log
        self._broke = broke
        self._timers: set[asyncio.TimerHandle] = set()

    def start(self, work: Coroutine[Any, Any, Any], what: str) -> asyncio.Task[Any]:
        """Do *work* in a task, which is *what* in a sentence."""
        task = asyncio.get_running_loop().create_task(work, name=f"{what} of {self._model}")
        task.add_done_callback(partial(self._tell_fault, what))
        return task

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        """Have *call* made in *seconds*, unless this is closed before."""
        loop = asyncio.get_running_loop()
        self._timers = {timer for timer in self._timers if timer.when() > loop.time()}
        self._timers.add(loop.call_later(seconds, call))

    def close(self) -> None:
        """Forget the timers; tasks are for who started them to end."""
        for timer in self._timers:
            timer.cancel()

    def _tell_fault(self, what: str, task: asyncio.Task[Any]) -> None:
        """What ends by another exception than a refusal is a fault of ours."""
        if not task.cancelled() and (error := task.exception()) and not isinstance(error, ReloadRefused):
            self._log.error("the life of the model broke", exc_info=error, extra={"task": task.get_name()})
            self._broke(what, f"{task.get_name()} broke: {type(error).__name__}: {error}")


def is_over(task: asyncio.Task[Any] | None) -> bool:
    """Whether *task* has ended, or was never begun."""
    return task is None or task.done()


async def wait(tasks: Iterable[asyncio.Task[Any] | None], timeout: float | None) -> None:  # noqa: ASYNC109  # asyncio.wait's
    """Wait for *tasks*, at most *timeout* seconds, whatever becomes of them."""
    if waited_for := {task for task in tasks if task is not None and not task.done()}:
        await asyncio.wait(waited_for, timeout=timeout)
