"""One connection: aiohttp's, closed when its other end sends no request, or does not read the answer."""

import asyncio
import math
from dataclasses import dataclass, field
from typing import Any, cast

from aiohttp import StreamReader, hdrs, web

from mlopsd.web.api.problem import Problem
from mlopsd.web.middleware import RequestRecorder

LAST_MOMENT = 0.5  # seconds for a head, or the rest of an unwanted body, that comes while the server stops
END_OF_HEAD = b"\r\n\r\n"
NOT_HTTP = "this is no HTTP/1.1 request, or its head is too long; send another"


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds that a connection waits for its other end.

    Attributes:
        head: for a whole request head, from its first byte or from the connection's beginning.
        idle: for the next request.
        write: for the other end to read what was written.
        linger: for the rest of a body that is not wanted any more.
    """

    head: float = 10.0
    idle: float = 75.0
    write: float = 30.0
    linger: float = 2.0


@dataclass(slots=True)
class ConnectionLimit:
    """The connections of one server: at most *most*; one that is owed no answer makes room for a new one.

    Attributes:
        parting: the server is going to stop; every answer is a connection's last.
        leaving: it is stopping; besides, nobody is waited for who has not begun to ask.
        empty: set while there is none.
    """

    most: int
    members: set["Connection"] = field(default_factory=set)
    parting: bool = False
    leaving: bool = False
    empty: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.empty.set()

    def admit(self, newcomer: "Connection") -> bool:
        """Take *newcomer* in, if there is or can be made room."""
        if len(self.members) >= self.most and not self._make_room():
            return False
        self.members.add(newcomer)
        self.empty.clear()
        return True

    def leave(self, member: "Connection") -> None:
        """Forget *member*."""
        self.members.discard(member)
        if not self.members:
            self.empty.set()

    def dismiss_idle(self) -> None:
        """Close what waits for another request, and let every other connection end with its answer.

        Who has only just come has a request on its way and a moment for it.
        """
        self.parting = self.leaving = True
        for member in [member for member in self.members if member.idle or member.lingers]:
            member.dismiss()

    def _make_room(self) -> bool:
        """End the connection that is idle longest; if none is, the one whose answer was sent first."""
        if idle := [member for member in self.members if member.idle]:
            longest = min(idle, key=lambda member: member.idle_until)
        elif lingering := [member for member in self.members if member.lingers]:
            longest = min(lingering, key=lambda member: member.answered_at)
        else:
            return False
        self.members.discard(longest)
        longest.hang_up()
        return True


class Connection(web.RequestHandler):
    """aiohttp's connection with three things that it leaves open: slow heads, slow readers, and crowds.

    It leans on names of aiohttp's that begin with an underscore, as of 3.11 to 3.14; the tests hold them.
    """

    __slots__ = (
        "_answered_at",
        "_body",
        "_body_length",
        "_boundary",
        "_crowd",
        "_head_deadline",
        "_patience",
        "_write_deadline",
    )

    def __init__(
        self, server: web.Server, boundary: RequestRecorder, crowd: ConnectionLimit, patience: Timeouts
    ) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=patience.idle,
            lingering_time=patience.linger,
            access_log=None,  # type: ignore[arg-type]  # aiohttp takes it for none
        )
        self._boundary = boundary
        self._crowd = crowd
        self._patience = patience
        self._head_deadline: asyncio.TimerHandle | None = None
        self._write_deadline: asyncio.TimerHandle | None = None
        self._body: StreamReader | None = None  # of the newest request, while it comes
        self._body_length = 0  # as the newest request's head has it
        self._answered_at: float | None = None  # the newest request, if its body was not whole then

    @property
    def lingers(self) -> bool:
        """Tell if its last request is answered, and the rest of that one's body still comes."""
        return self._answered_at is not None and not self.idle

    @property
    def answered_at(self) -> float:
        """Return when the connection that `lingers` was answered, on the loop's clock; else never."""
        return math.inf if self._answered_at is None else self._answered_at

    @property
    def idle(self) -> bool:
        """Tell if it waits for a request, or for the rest of a request's head."""
        return self._waiter is not None and not self._waiter.done() and not self._messages

    @property
    def idle_until(self) -> float:
        """Return the time at which it would be closed: earliest for the one that is idle longest."""
        return self._next_keepalive_close_time

    def hang_up(self) -> None:
        """End the connection now, whatever the other end has not read."""
        if self.transport is not None:
            self.transport.abort()

    def dismiss(self) -> None:
        """End the connection that has nothing to answer, after its first request if there was none yet."""
        if self.lingers:
            self._loop.call_later(LAST_MOMENT, self._end_lingering)
        elif self._request_count:
            self.hang_up()
        else:
            self._expect_no_head()
            self._expect_head()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection if there is room, and wait for a request's head."""
        plug = cast("asyncio.Transport", transport)
        if not self._crowd.admit(self):
            plug.write(self._boundary.turn_away())
            plug.close()
            return
        super().connection_made(transport)
        self._next_keepalive_close_time = self._loop.time() + self._patience.idle  # 0 with older aiohttp
        plug.set_write_buffer_limits(high=0)  # then "paused" is: something has not been read yet
        self._expect_head()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Give the place in the crowd back."""
        self._crowd.leave(self)
        self._expect_no_head()
        self._stop_write_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Pass *data* on, and have the time of a head begin with its first byte."""
        before, in_body = self._request_count, self._body is not None
        super().data_received(data)
        is_new = self._request_count != before
        if is_new:
            self._take_newest(*self._messages[-1])
        if self._body is not None and self._body.is_eof():
            self._body = None
        if data and is_new:
            self._expect_no_head()
        if data and self._head_deadline is None and self._begins_a_head(data, rest=is_new or in_body):
            self._expect_head()

    def pause_writing(self) -> None:
        """Something has not been read by the other end: it has its time."""
        super().pause_writing()
        self._write_deadline = self._loop.call_later(self._patience.write, self.hang_up)

    def resume_writing(self) -> None:
        """All has been read."""
        self._stop_write_deadline()
        super().resume_writing()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # aiohttp's words may hold what was sent
    ) -> web.StreamResponse:
        """The answer to what is no HTTP, or to an error that no handler could see, in our form.

        Raises:
            ConnectionError: a part of another answer has been sent already.
        """
        if request.writer.output_size > 0:
            raise ConnectionError("the answer was broken off")
        detail = NOT_HTTP if status < 500 else "something broke in mlopsd; its log has the reason"  # noqa: PLR2004
        return self._boundary.refuse(request, Problem(status, detail, closes=True), exc)

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Log what broke, but not that a body is broken whose request is answered: anyone can send one."""
        if not isinstance(kw.get("exc_info"), web.RequestPayloadError):
            super().log_exception(*args, **kw)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send *resp*, as the last when parting."""
        if self._crowd.parting:
            resp.force_close()
        if self._crowd.leaving:
            self._lingering_time = min(self._patience.linger, LAST_MOMENT)
        finished = await super().finish_response(request, resp, start_time)
        self._answered_at = None if request.content.is_eof() else self._loop.time()
        return finished

    def _take_newest(self, message: object, body: StreamReader) -> None:
        """Know how long the newest request is; where its bytes are no request, *message* has no headers."""
        self._answered_at = None
        self._body = body
        headers = getattr(message, "headers", {})
        self._body_length = int(headers.get(hdrs.CONTENT_LENGTH, 0))

    def _begins_a_head(self, data: bytes, *, rest: bool) -> bool:
        """Tell if *data*, which the parser has taken, holds the beginning of one more head.

        With *rest* it begins with (the rest of) another request. The parser does not tell where that ends;
        its length does, unless its head came before: then nothing is taken to follow it.
        """
        if self._body is not None:
            return False
        if not rest:
            return not END_OF_HEAD.endswith(data)  # empty lines before a request mean nothing
        up_to_body = data[: len(data) - self._body_length] if self._body_length < len(data) else b""
        return not END_OF_HEAD.endswith(up_to_body[-len(END_OF_HEAD) :])

    def _end_lingering(self) -> None:
        if self.lingers or self.idle:  # else one more request came, whose answer is the last
            self.hang_up()

    def _expect_head(self) -> None:
        seconds = min(self._patience.head, LAST_MOMENT) if self._crowd.leaving else self._patience.head
        self._head_deadline = self._loop.call_later(seconds, self._head_is_late)

    def _expect_no_head(self) -> None:
        if self._head_deadline is not None:
            self._head_deadline.cancel()
            self._head_deadline = None

    def _head_is_late(self) -> None:
        self._head_deadline = None
        if self._request_count == 0 or self.idle:
            self.hang_up()
        else:  # it waits behind a request that is still being answered
            self._expect_head()

    def _stop_write_deadline(self) -> None:
        if self._write_deadline is not None:
            self._write_deadline.cancel()
            self._write_deadline = None
