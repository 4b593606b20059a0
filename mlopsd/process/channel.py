"""The daemon's end of the channel to a child process: requests and their answers as frames."""

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

MOST_NOTICES = 8  # unread; more violate the protocol

OnPart = Callable[[Header], None]


class ChannelClosed(Exception):
    """The error of a process that closed the channel: no further answer comes."""


async def read_frame(reader: asyncio.StreamReader, limits: FrameLimits = ANY_SIZE) -> Frame:
    """Return the next frame.

    Raises:
        asyncio.IncompleteReadError: The process closed the channel.
        BadFrame: The bytes are not a frame.
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
        except Exception as error:  # noqa: BLE001  # the caller's own error must not end the other requests
            self.answer.set_exception(error)


class RequestChannel:
    """The channel to *child*, for concurrent requests. A request and its answer share an ``id``.

    - A frame with ``more`` is one part of an answer, and further parts follow.
    - A frame without an ``id`` is a notice of the process.
    - Cancelling a caller does not affect other callers.

    Attributes:
        child: The process.
        answered: The number of answers so far.
        closed: Set once no further answer can come.
        idle: Set while no request waits for an answer.
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
        self._end: ChannelClosed | BadFrame = ChannelClosed("it closed the channel")
        child.hang_up_when_ended()
        self._reading = asyncio.create_task(self._read(), name=f"read from {child.pid}")

    @property
    def unanswered(self) -> Sequence[Header]:
        """Return the requests without an answer, including those of cancelled callers."""
        return [pending.request for pending in self._pending.values()]

    async def ask(
        self,
        request: Header,
        body: bytes = b"",
        *,
        on_part: OnPart | None = None,
        if_cancelled: Header | None = None,
    ) -> Frame:
        """Return the answer to *request*; call *on_part* with the header of each part before it.

        If the caller is cancelled, send *if_cancelled* with the id of the request.

        Raises:
            ChannelClosed: The process closed the channel first.
            BadFrame: The process sent an invalid frame, or *request* cannot be sent.
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
        except asyncio.CancelledError:
            if if_cancelled is not None and number in self._pending:
                with contextlib.suppress(ConnectionError):
                    self.child.writer.write(pack({**if_cancelled, "id": number}, limits=self._limits))
            raise
        finally:
            answer.cancel()

    async def send(self, header: Header) -> None:
        """Send a frame without an answer.

        Raises:
            BadFrame: *header* cannot be sent.
        """
        await self._write(pack(header, limits=self._limits))

    async def notice(self) -> Header:
        """Return the next notice of the process.

        Raises:
            ChannelClosed: The process closed the channel.
            BadFrame: The process sent an invalid frame.
        """
        if (header := await self._notices.get()) is None:
            self._notices.put_nowait(None)  # for the next caller
            raise self._end
        return header

    async def _write(self, packed: bytes, body: bytes = b"") -> None:
        with contextlib.suppress(ConnectionError):  # the reading task reports the end
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
                raise BadFrame(f"more than {MOST_NOTICES} unread notices")
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
        if not pending.answer.done():  # otherwise its caller was cancelled
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
