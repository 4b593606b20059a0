"""The named background tasks of one model."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from mlopsd.probe import ReloadRefused
from mlopsd.process.backoff import ExponentialBackoff


class TaskSet:
    """Owns the tasks of *model*; sets *wake* when one ends.

    An unexpected exception in a task is logged with its traceback.

    Attributes:
        problems: the last unexpected exception of each kind of work.
    """

    def __init__(self, model: str, log: logging.Logger, wake: asyncio.Event) -> None:
        self._model = model
        self._log = log
        self._wake = wake
        self._running: set[asyncio.Task[Any]] = set()
        self.problems: dict[str, str] = {}

    def start(
        self,
        work: str,
        call: Callable[..., Coroutine[Any, Any, Any]],
        *args: Any,
        backoff: ExponentialBackoff | None = None,
    ) -> asyncio.Task[Any]:
        """Run *call* in a task named after *work*; an unexpected exception makes *backoff* wait."""
        name = f"{work} of {self._model}"
        task = asyncio.get_running_loop().create_task(self._run(work, call, args, backoff), name=name)
        self._running.add(task)
        task.add_done_callback(self._end)
        return task

    def note_fault(self, work: str, error: Exception) -> None:
        """Log a fault of ours in *work*, and keep it as its problem."""
        name = f"{work} of {self._model}"
        self._log.error("model task failed", exc_info=error, extra={"task": name})
        self.problems[work] = f"{name} broke: {type(error).__name__}: {error}"

    def forget(self, *works: str) -> None:
        """Forget the problems of *works*."""
        for work in works:
            self.problems.pop(work, None)

    def cancel(self) -> None:
        """Cancel every task."""
        for task in self._running:
            task.cancel()

    async def wait(self, timeout: float) -> None:  # noqa: ASYNC109  # asyncio.wait's
        """Wait for every task, at most *timeout* seconds."""
        await wait(self._running, timeout)

    async def _run(
        self,
        work: str,
        call: Callable[..., Coroutine[Any, Any, Any]],
        args: tuple[Any, ...],
        backoff: ExponentialBackoff | None,
    ) -> Any:
        try:
            return await call(*args)
        except ReloadRefused:
            raise
        except Exception as error:  # a fault of ours, which must not end the other tasks
            self.note_fault(work, error)
            if backoff is not None:
                backoff.failed()
            raise
        finally:
            self._wake.set()

    def _end(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        self._wake.set()  # `_run` does not, where the task was cancelled before it began
        if not task.cancelled():
            task.exception()  # retrieved for asyncio; it is logged, or raised where the task is awaited


def is_over(task: asyncio.Task[Any] | None) -> bool:
    """Return whether *task* has ended or never began."""
    return task is None or task.done()


def has_failed(task: asyncio.Task[Any]) -> bool:
    """Return whether *task* has ended without a result."""
    return task.done() and (task.cancelled() or task.exception() is not None)


async def wait(tasks: Iterable[asyncio.Task[Any] | None], timeout: float | None) -> None:  # noqa: ASYNC109  # asyncio.wait's
    """Wait for the end of *tasks*, failed or not, at most *timeout* seconds."""
    if waited_for := {task for task in tasks if task is not None and not task.done()}:
        await asyncio.wait(waited_for, timeout=timeout)
