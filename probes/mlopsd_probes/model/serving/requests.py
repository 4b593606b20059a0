"""Questions to a model's process and its answers: who waits for which, and for how long already."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mlopsd.process.child import Child
from mlopsd_probes.model.frames import BadFrame, read_frame, write_frame

LAST_WORDS = 1.0  # seconds between the end of the channel and that of the process

Answer = tuple[dict[str, Any], bytes]


class HostDied(Exception):
    """The process ended, in the words of `Child.how_it_ended`, before it answered."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    is_canary: bool
    answer: asyncio.Future[Answer]


class PendingRequests:
    """Any number of questions at a time to *child*, once `begin` has been called.

    *on_notice* is told of what the process says by itself, and raises `BadFrame` if that is nonsense.

    Attributes:
        ended: done when nothing more comes, with how the process ended.
        answered: how many answers have come.
    """

    def __init__(self, child: Child, on_notice: Callable[[Mapping[str, Any]], None]) -> None:
        self._child = child
        self._on_notice = on_notice
        self._last_id = 0
        self._waiting: dict[int, _Waiting] = {}
        self._last_canary = 0
        self.answered = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._listening: asyncio.Task[None] | None = None
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def begin(self) -> None:
        """The process is ready: from now on all that it sends is an answer."""
        self._listening = asyncio.get_running_loop().create_task(
            self._listen(), name=f"listen to model host {self._child.pid}"
        )

    @property
    def in_flight(self) -> int:
        """Questions without an answer, those included that nobody waits for any more."""
        return len(self._waiting)

    @property
    def predictions_in_flight(self) -> int:
        """Return how many callers' requests have no answer, also where the caller has stopped waiting."""
        return sum(not waiting.is_canary for waiting in self._waiting.values())

    def ahead_of_canary(self) -> int:
        """Return how many callers' requests were sent before the last canary and have no answer yet."""
        return sum(
            number < self._last_canary and not waiting.is_canary for number, waiting in self._waiting.items()
        )

    async def ask(self, request: Mapping[str, Any], body: bytes = b"") -> Answer:
        """The answer to *request*; one who stops waiting disturbs nobody.

        Raises:
            HostDied: the process ended first.
        """
        self._last_id += 1
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        is_canary = request["do"] == "canary"
        self._waiting[self._last_id] = _Waiting(is_canary, answer)
        if is_canary:
            self._last_canary = self._last_id
        self._idle.clear()
        with contextlib.suppress(ConnectionError):  # its end answers
            await write_frame(self._child.writer, {**request, "id": self._last_id}, body)
        return await answer

    async def idle(self) -> None:
        """Wait until every question has its answer."""
        await self._idle.wait()

    async def close(self) -> None:
        """The process has been killed: read to the end what it sent, and tell those who wait."""
        if self._listening is not None:
            await asyncio.wait({self._listening}, timeout=LAST_WORDS)
        self._end("was ended")

    async def _listen(self) -> None:
        try:
            while True:
                self._take(*await read_frame(self._child.reader))
        except (asyncio.IncompleteReadError, ConnectionError, BadFrame, KeyError, TypeError):
            if not await self._child.wait(LAST_WORDS):
                await self._child.kill()
        self._end(self._child.how_it_ended())

    def _take(self, header: dict[str, Any], body: bytes) -> None:
        if "id" not in header:
            self._on_notice(header)
            return
        waiting = self._waiting.pop(header["id"])
        self.answered += 1
        if not waiting.answer.done():  # else nobody waits for it any more
            waiting.answer.set_result((header, body))
        if not self._waiting:
            self._idle.set()

    def _end(self, how: str) -> None:
        if not self.ended.done():
            self.ended.set_result(how)
        for waiting in self._waiting.values():
            if not waiting.answer.done():
                waiting.answer.set_exception(HostDied(how))
        self._waiting.clear()
        self._idle.set()
