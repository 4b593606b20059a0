"""One running process of a probe: what it is told first, and how it is asked."""

import asyncio
import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlopsd.log_limit import LogLimiter
from mlopsd.process import child
from mlopsd.worker import frames
from mlopsd.worker.worker import WorkerDied

COMMAND = (sys.executable, "-P", "-u", "-m", "mlopsd.worker.child", child.CHANNEL, child.PARENT)
LONGEST_PAUSE = 300.0
START_SECONDS = 30.0  # for an interpreter and what a probe imports, on a busy host; a check has its own time
LAST_WORDS = 0.1  # seconds for an answer that was on its way when its process ended


@dataclass(frozen=True, slots=True)
class InitMessage:
    """The first frame to a process: which probe it is to be.

    Attributes:
        target: ``package.module:Class``.
        table: the probe's own keys as they were written; secrets go by this frame, never by arguments.
        timeout: seconds that one check may take.
        longest_pause: seconds before a process that died again and again is started once more.
    """

    name: str
    target: str
    table: Mapping[str, Any]
    state_dir: Path
    log_level: int
    timeout: float
    longest_pause: float = LONGEST_PAUSE

    def frame(self) -> frames.Frame:
        """As JSON."""
        return {
            "name": self.name,
            "target": self.target,
            "table": self.table,
            "state_dir": str(self.state_dir),
            "log_level": self.log_level,
            "timeout": self.timeout,
        }


async def spawn(opening: InitMessage, log: logging.Logger, printed: LogLimiter) -> "ProbeProcess":
    """Start a process for the probe of *opening*; what it prints goes to *log*.

    Raises:
        frames.BadFrame: *opening* cannot be told to it.
        OSError: it cannot be started.
    """
    first = frames.encode(opening.frame())  # before there is anything to undo
    started = await child.spawn(COMMAND, opening.name, log, printed)
    started.writer.write(first)
    return ProbeProcess(started)


class ProbeProcess:
    """A running process of a probe, asked one thing at a time."""

    def __init__(self, started: child.Child) -> None:
        self._child = started
        self._asked = 0
        self._is_ready = False
        self._given_up_at = asyncio.get_running_loop().time() + START_SECONDS

    @property
    def pid(self) -> int:
        """Its process id, which is its process group's and session's too."""
        return self._child.pid

    @property
    def ended(self) -> bool:
        """Whether it is gone and reaped; its pid may be somebody else's then."""
        return self._child.ended

    @property
    def is_starting(self) -> bool:
        """Whether its probe has not been made yet, and nothing was asked, within `START_SECONDS`."""
        return not self._is_ready and asyncio.get_running_loop().time() < self._given_up_at

    async def ask(self, request: frames.Frame) -> dict[str, Any]:
        """Its answer to *request*, which is put as soon as it has started.

        After an exception it must not be asked again unless it `is_starting`: an answer may be under way.

        Raises:
            WorkerDied: it ended instead of answering.
            frames.BadFrame: its answer is none of ours, or to another request.
        """
        loop = asyncio.get_running_loop()
        answer = loop.create_task(self._exchange(request), name=f"answer of {self.pid}")
        end = loop.create_task(self._child.wait(), name=f"end of {self.pid}")
        try:
            await asyncio.wait({answer, end}, return_when=asyncio.FIRST_COMPLETED)
            return await asyncio.wait_for(answer, None if answer.done() else LAST_WORDS)
        except (TimeoutError, asyncio.IncompleteReadError, ConnectionError) as error:
            await self._child.wait(child.PATIENCE)
            raise WorkerDied(f"its process {self._child.how_it_ended()}") from error
        finally:
            answer.cancel()
            end.cancel()

    async def end(self) -> None:
        """End it and what it started, as `Child.end`."""
        await self._child.end()

    async def kill(self) -> None:
        """Kill it and what it started, as `Child.kill`."""
        await self._child.kill()

    async def _exchange(self, request: frames.Frame) -> dict[str, Any]:
        await self._start()
        self._asked += 1
        self._child.writer.write(frames.encode({**request, "id": self._asked}))
        return await self._receive()

    async def _start(self) -> None:
        """Wait until it can be asked; cancelled, another may wait."""
        if self._is_ready:
            return
        if (said := await self._child.reader.readexactly(len(frames.READY))) != frames.READY:
            raise frames.BadFrame(f"{said!r} instead of a sign that it has started")
        self._is_ready = True

    async def _receive(self) -> dict[str, Any]:
        head = await self._child.reader.readexactly(frames.LENGTH.size)
        answer = frames.decode(await self._child.reader.readexactly(frames.length(head)))
        if answer.get("id") != self._asked:
            raise frames.BadFrame(f"an answer to request {answer.get('id')}, not to {self._asked}")
        return answer
