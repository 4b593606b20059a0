"""One connection: aiohttp's, closed if the client sends no request or does not read the response."""

import asyncio
import math
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, cast

from aiohttp import StreamReader, hdrs, web
from typing_extensions import override

from mlopsd.web.api.problem import Problem
from mlopsd.web.middleware import RequestRecorder

LAST_MOMENT = 0.5  # seconds for a head, or the rest of a rejected body, while the server stops
END_OF_HEAD = b"\r\n\r\n"
MOST_LEAVING = 64  # connections that get time to read why they are closed
NOT_HTTP = "not an HTTP/1.1 request, or its head is too long; send a valid request"


@dataclass(frozen=True, slots=True)
class Timeouts:
    """The seconds that a connection waits for its client.

    Attributes:
        head: For a whole request head, from its first byte or from the start of the connection.
        idle: For the next request.
        write: For the client to read the written bytes.
        linger: For the rest of a rejected body.
    """

    head: float = 10.0
    idle: float = 75.0
    write: float = 30.0
    linger: float = 2.0


@dataclass(slots=True)
class ConnectionLimit:
    """The open connections of one server, at most *most*. An idle one gets a 503 to make room.

    Attributes:
        most: The limit.
        members: The open connections.
        draining: True before the stop: each connection closes after its next response.
        stopping: True during the stop: clients that have not started a request get no more time.
        empty: Set while there is no connection.
        greeting: The connections that begin with a TLS handshake, each with its last moment.
        leaving: The connections that have their last response.
    """

    most: int
    members: set["Connection"] = field(default_factory=set, init=False)
    draining: bool = False
    stopping: bool = False
    empty: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    greeting: dict["Connection", float] = field(default_factory=dict, init=False)
    leaving: set["Leaving"] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        self.empty.set()

    def add(self, newcomer: "Connection") -> bool:
        """Add *newcomer* if there is room, or if room can be made; return whether it was added."""
        if len(self.members) >= self.most and not self._make_room():
            return False
        self.members.add(newcomer)
        self.empty.clear()
        return True

    def greet(self, newcomer: "Connection", until: float) -> None:
        """Count *newcomer*, which has to finish its TLS handshake *until* a time of the loop's clock."""
        self.greeting[newcomer] = until

    def may_greet(self, now: float) -> bool:
        """Return whether there is room for one more TLS handshake: as many as connections."""
        if len(self.greeting) >= self.most:
            self.greeting = {one: until for one, until in self.greeting.items() if until > now}
        return len(self.greeting) < self.most

    def part(self) -> None:
        """Close each present connection after its next response."""
        for member in self.members:
            member.is_parting = True

    def remove(self, member: "Connection") -> None:
        """Remove *member*."""
        self.members.discard(member)
        if not self.members:
            self.empty.set()

    def close_idle(self) -> None:
        """Close the connections without a request, and all others after their response.

        A new connection gets a moment first, since its request is on its way.
        """
        self.draining = self.stopping = True
        for member in [member for member in self.members if member.idle or member.lingers]:
            member.finish()

    def _make_room(self) -> bool:
        """Dismiss the longest-idle connection; if none is idle, close the one that was answered first.

        An idle client may have sent a request that is still on its way: then the 503 is the answer to it.
        """
        if idle := [member for member in self.members if member.idle]:
            min(idle, key=lambda member: member.idle_until).dismiss()
        elif lingering := [member for member in self.members if member.lingers]:
            longest = min(lingering, key=lambda member: member.answered_at)
            self.members.discard(longest)
            longest.hang_up()
        else:
            return False
        return True

    def dismiss(self, plug: asyncio.Transport, response: bytes) -> None:
        """Send *response* as the last one on *plug*, and close it."""
        plug.write(response)
        if plug.can_write_eof() and len(self.leaving) < MOST_LEAVING:
            self.leaving.add(Leaving(plug, self.leaving))
        else:
            plug.close()


class Leaving(asyncio.Protocol):
    """A connection with its last response. It drops whatever the client still sends.

    If it closed at once, a request on its way would make the kernel reset the connection, and the client
    would not get the response.
    """

    def __init__(self, plug: asyncio.Transport, others: set["Leaving"]) -> None:
        self._others = others
        plug.set_protocol(self)
        plug.write_eof()
        self._deadline = asyncio.get_running_loop().call_later(LAST_MOMENT, plug.abort)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._deadline.cancel()
        self._others.discard(self)


class Connection(web.RequestHandler):
    """aiohttp's connection with three limits that it lacks: on slow heads, slow readers and connections.

    It uses private names of aiohttp 3.11 to 3.14; the tests check that they exist.
    """

    __slots__ = (
        "_answered_at",
        "_body",
        "_body_length",
        "_head_deadline",
        "_limit",
        "_recorder",
        "_timeouts",
        "_write_deadline",
        "is_parting",
    )

    def __init__(
        self, server: web.Server, recorder: RequestRecorder, limit: ConnectionLimit, timeouts: Timeouts
    ) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=timeouts.idle,
            lingering_time=timeouts.linger,
            access_log=None,  # type: ignore[arg-type]  # aiohttp accepts None
        )
        self._recorder = recorder
        self._limit = limit
        self._timeouts = timeouts
        self._head_deadline: asyncio.TimerHandle | None = None
        self._write_deadline: asyncio.TimerHandle | None = None
        self._body: StreamReader | None = None  # of the newest request, until it has arrived
        self._body_length = 0  # Content-Length of the newest request
        self.is_parting = False  # True to close the connection after its next response
        self._answered_at: float | None = (
            None  # time of the newest response, if the body had not arrived then
        )

    @property
    def lingers(self) -> bool:
        """Return whether the last request is answered while the rest of its body still arrives."""
        return self._answered_at is not None and not self.idle

    @property
    def answered_at(self) -> float:
        """Return when a connection that `lingers` was answered, on the loop's clock, else infinity."""
        return math.inf if self._answered_at is None else self._answered_at

    @property
    def idle(self) -> bool:
        """Return whether it waits for a request, or for the rest of a request's head."""
        return self._waiter is not None and not self._waiter.done() and not self._messages

    @property
    def idle_until(self) -> float:
        """Return the time when it will be closed, on the loop's clock: earliest for the longest idle."""
        return self._next_keepalive_close_time

    def hang_up(self) -> None:
        """Abort the connection now, even if the client has not read everything."""
        if self.transport is not None:
            self.transport.abort()

    def dismiss(self) -> None:
        """Answer 503 to a request that is perhaps on its way, and close the connection."""
        plug = cast("asyncio.Transport", self.transport)
        self._limit.dismiss(plug, self._recorder.rejection())
        self.transport = None  # so that aiohttp does not close it
        self.connection_lost(None)

    def finish(self) -> None:
        """Close a connection without a request to answer; a new one may send its first request."""
        if self.lingers:
            self._loop.call_later(LAST_MOMENT, self._end_lingering)
        elif self._request_count:
            self.hang_up()
        else:
            self._expect_no_head()
            self._expect_head()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Accept the connection if there is room, and wait for a request's head."""
        plug = cast("asyncio.Transport", transport)
        self._limit.greeting.pop(self, None)
        if not self._limit.add(self):
            self._limit.dismiss(plug, self._recorder.rejection())
            return
        super().connection_made(transport)
        self._next_keepalive_close_time = self._loop.time() + self._timeouts.idle  # 0 with older aiohttp
        plug.set_write_buffer_limits(high=0)  # with 0, "paused" means that the client has not read everything
        self._expect_head()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Remove the connection from the limit."""
        self._limit.remove(self)
        self._expect_no_head()
        self._stop_write_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Pass *data* on, and start the timeout of a head at its first byte."""
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
        """Start the timeout of a client that has not read everything."""
        super().pause_writing()
        self._write_deadline = self._loop.call_later(self._timeouts.write, self.hang_up)

    def resume_writing(self) -> None:
        """Stop that timeout: the client has read everything."""
        self._stop_write_deadline()
        super().resume_writing()

    @override
    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # not used: aiohttp's message may contain the client's data
    ) -> web.StreamResponse:
        """Return the problem document for invalid HTTP, or for an error that no handler could see.

        Raises:
            ConnectionError: A part of another response has been sent already.
        """
        if request.writer.output_size > 0:
            raise ConnectionError("cannot send the error: a part of another response was sent")
        detail = (
            NOT_HTTP
            if status < HTTPStatus.INTERNAL_SERVER_ERROR
            else "an internal error of mlopsd; its log has the reason"
        )
        return self._recorder.refuse(request, Problem(status, detail, closes=True), exc)

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Log an exception, except for a broken body after the response: anyone can send one."""
        if not isinstance(kw.get("exc_info"), web.RequestPayloadError):
            super().log_exception(*args, **kw)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send *resp*; close the connection after it while draining."""
        if self._limit.draining or self.is_parting:
            resp.force_close()
        if self._limit.stopping:
            self._lingering_time = min(self._timeouts.linger, LAST_MOMENT)
        finished = await super().finish_response(request, resp, start_time)
        self._answered_at = None if request.content.is_eof() else self._loop.time()
        return finished

    def _take_newest(self, message: object, body: StreamReader) -> None:
        """Record the length of the newest request. Without a valid request, *message* has no headers."""
        self._answered_at = None
        self._body = body
        headers = getattr(message, "headers", {})
        self._body_length = int(headers.get(hdrs.CONTENT_LENGTH, 0))

    def _begins_a_head(self, data: bytes, *, rest: bool) -> bool:
        """Return whether *data*, which the parser has consumed, holds the start of one more head.

        With *rest*, *data* begins with another request or its rest. The parser does not report where that
        ends, but the request's length does. If its head came in earlier data, assume that nothing follows.
        """
        if self._body is not None:
            return False
        if not rest:
            return not END_OF_HEAD.endswith(data)  # empty lines before a request are ignored
        up_to_body = data[: len(data) - self._body_length] if self._body_length < len(data) else b""
        return not END_OF_HEAD.endswith(up_to_body[-len(END_OF_HEAD) :])

    def _end_lingering(self) -> None:
        if self.lingers or self.idle:  # otherwise one more request came; its response closes the connection
            self.hang_up()

    def _expect_head(self) -> None:
        seconds = min(self._timeouts.head, LAST_MOMENT) if self._limit.stopping else self._timeouts.head
        self._head_deadline = self._loop.call_later(seconds, self._head_is_late)

    def _expect_no_head(self) -> None:
        if self._head_deadline is not None:
            self._head_deadline.cancel()
            self._head_deadline = None

    def _head_is_late(self) -> None:
        self._head_deadline = None
        if self._request_count == 0 or self.idle:
            self.hang_up()
        else:  # the head waits behind a request in progress
            self._expect_head()

    def _stop_write_deadline(self) -> None:
        if self._write_deadline is not None:
            self._write_deadline.cancel()
            self._write_deadline = None
