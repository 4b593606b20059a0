"""The daemon's end of the channel to a child process: frames, and requests with their answers."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mlopsd.process.child import Child
from mlopsd.process.frames import (
    ANY_SIZE,
    HEAD,
    BadFrame,
    Frame,
    FrameLimits,
    Header,
    decode,
    pack,
    unpack_sizes,
)

MOST_NOTICES = 8  # unread; more are no protocol of ours

OnPart = Callable[[Header], None]


class ChannelClosed(Exception):
    """The process hung up: no answer comes any more."""


async def read_frame(reader: asyncio.StreamReader, limits: FrameLimits = ANY_SIZE) -> Frame:
    """Return the next frame.

    Raises:
        asyncio.IncompleteReadError: the other side hung up.
        BadFrame: it wrote something else.
    """
    header_size, body_size = unpack_sizes(await reader.readexactly(HEAD.size), limits)
    header = decode(await reader.readexactly(header_size))
    return header, await reader.readexactly(body_size)


@dataclass(frozen=True, slots=True)
class _Pending:
    request: Header
    answer: asyncio.Future[Frame]
    on_part: OnPart | None

    def take_part(self, header: Header) -> None:
        if self.on_part is None or self.answer.done():
            return
        try:
            self.on_part(header)
        except Exception as error:  # noqa: BLE001  # it is its caller's, who is not to end all others
            self.answer.set_exception(error)


class RequestChannel:
    """Any number of requests at a time to *child*, each with an ``id`` that its answer carries too.

    A frame with ``more`` is a part of an answer of which the rest follows. A frame without an ``id`` is a
    notice of the process. A caller that is cancelled disturbs nobody.

    Attributes:
        child: the process.
        answered: the number of answers that have come.
        closed: set once no answer comes any more.
        idle: set while every request has its answer.
    """

    def __init__(self, child: Child, limits: FrameLimits = ANY_SIZE) -> None:
        self.child = child
        self.answered = 0
        self.closed, self.idle = asyncio.Event(), asyncio.Event()
        self.idle.set()
        self._limits = limits
        self._last_id = 0
        self._pending: dict[int, _Pending] = {}
        self._notices: asyncio.Queue[Header | None] = asyncio.Queue()  # None: no more
        self._end: ChannelClosed | BadFrame = ChannelClosed("it hung up")
        child.hang_up_when_ended()
        self._reading = asyncio.create_task(self._read(), name=f"read from {child.pid}")

    @property
    def unanswered(self) -> Sequence[Header]:
        """The requests without an answer, as they were sent, also those of cancelled callers."""
        return [pending.request for pending in self._pending.values()]

    async def ask(self, request: Header, body: bytes = b"", *, on_part: OnPart | None = None) -> Frame:
        """Return the answer to *request*; call *on_part* with the header of each part before it.

        Raises:
            ChannelClosed: the process hung up first.
            BadFrame: it wrote something else, or *request* cannot be sent.
        """
        if self.closed.is_set():
            raise self._end
        number = self._last_id + 1
        packed = pack({**request, "id": number}, len(body), self._limits)
        answer: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        self._last_id, self._pending[number] = number, _Pending(request, answer, on_part)
        self.idle.clear()
        try:
            await self._write(packed, body)
            return await answer
        finally:
            answer.cancel()

    async def send(self, header: Header) -> None:
        """Send a frame that has no answer; a BadFrame says that it cannot be sent."""
        await self._write(pack(header, limits=self._limits))

    async def notice(self) -> Header:
        """Return the next frame that the process sends by itself.

        Raises:
            ChannelClosed: the process hung up.
            BadFrame: it wrote something else.
        """
        if (header := await self._notices.get()) is None:
            self._notices.put_nowait(None)  # for the next caller
            raise self._end
        return header

    async def _write(self, packed: bytes, body: bytes = b"") -> None:
        with contextlib.suppress(ConnectionError):  # the end of the reading tells
            self.child.writer.write(packed)
            if body:
                self.child.writer.write(body)
            await self.child.writer.drain()

    async def _read(self) -> None:
        try:
            while True:
                self._take(*await read_frame(self.child.reader, self._limits))
        except BadFrame as error:
            self._end = error
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            self._close()

    def _take(self, header: dict[str, Any], body: bytes) -> None:
        if "id" not in header:
            if self._notices.qsize() >= MOST_NOTICES:
                raise BadFrame("more notices than anybody waits for")
            self._notices.put_nowait(header)
            return
        number = header["id"]
        pending = self._pending.get(number) if isinstance(number, int) else None
        if pending is None:
            raise BadFrame(f"an answer to request {number}, not to {next(iter(self._pending), 'any')}")
        if header.get("more"):
            pending.take_part(header)
            return
        self.answered += 1
        del self._pending[number]
        if not pending.answer.done():  # else nobody waits for it any more
            pending.answer.set_result((header, body))
        if not self._pending:
            self.idle.set()

    def _close(self) -> None:
        self.closed.set()
        self._notices.put_nowait(None)
        for pending in self._pending.values():
            if not pending.answer.done():
                pending.answer.set_exception(self._end)
        self._pending.clear()
        self.idle.set()
