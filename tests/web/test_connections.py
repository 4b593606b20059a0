"""Connections: slow heads, slow readers, crowds, the end, and a listener that takes another's place."""

import asyncio
import contextlib
import logging
import os
import resource
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from mlopsd.probe import Finding, Reading, Status
from mlopsd.web.app import make_app
from mlopsd.web.server import connection
from mlopsd.web.server.connection import LAST_MOMENT, MOST_LEAVING, Connection, Timeouts
from mlopsd.web.server.listener import Listener
from mlopsd.web.server.site import MOST_LOCAL, Site
from tests.running import GIVE_UP
from tests.web.fakes import House, until

SHUT = Reading(findings=[Finding("door", Status.HEALTHY, "the door is shut")])
ASK = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
CHECK = b"POST /health/door/check HTTP/1.1\r\nHost: localhost\r\nX-API-Key: sesame-0123456789\r\n\r\n"
SHORT = 0.05  # seconds, where the time must pass
LONG = 3600.0  # where it must not
REFUSED = b"POST /health/door/check HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n"


def a_house() -> House:
    house = House()
    house.let_in("sesame-0123456789")
    house.watch("door", SHUT)
    return house


@asynccontextmanager
async def a_server(house: House, *, most: int = 64, timeouts: Timeouts | None = None) -> AsyncIterator[Site]:
    """A server whose port is in ``port``."""
    listener = Listener.tcp("127.0.0.1", 0)
    app = make_app(house.parts, local=False)
    try:
        async with Site(app, listener, most_connections=most, timeouts=timeouts) as serving:
            yield serving
    finally:
        house.board.close()
        listener.close()


class Caller:
    """One connection to a server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def of(cls, serving: Site) -> "Caller":
        return cls(*await asyncio.open_connection("127.0.0.1", serving.listener.port))

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def ask(self, request: bytes = ASK) -> int:
        """The status code of the answer, which is read to its end."""
        self.send(request)
        return await self.answer()

    async def answer(self) -> int:
        head = await self.reader.readuntil(b"\r\n\r\n")
        (length,) = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")]
        await self.reader.readexactly(int(length.split(b":")[1]))
        return int(head.split()[1])

    async def is_hung_up_on(self) -> bool:
        """Wait until the other end closes, without a response or with one that says that there is no room."""
        try:
            last = await self.reader.read()
            return last == b"" or last.startswith(b"HTTP/1.1 503 ")
        except ConnectionResetError:
            return True

    async def leave(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionResetError):
            await self.writer.wait_closed()


@asynccontextmanager
async def callers(serving: Site, count: int) -> AsyncIterator[list[Caller]]:
    """*count* connections, one after the other."""
    connected: list[Caller] = []
    try:
        for _ in range(count):
            connected.append(await Caller.of(serving))
        yield connected
    finally:
        for caller in connected:
            await caller.leave()


@pytest.fixture
def arrived(monkeypatch: pytest.MonkeyPatch) -> bytearray:
    """All bytes that connections have been given and are done with."""
    taken = bytearray()
    take = Connection.data_received

    def data_received(self: Connection, data: bytes) -> None:
        take(self, data)
        taken.extend(data)

    monkeypatch.setattr(Connection, "data_received", data_received)
    return taken


async def deliver(caller: Caller, data: bytes, arrived: bytearray) -> None:
    """Send *data*, and wait until it is there."""
    expected = arrived + data
    caller.send(data)
    await until(lambda: arrived == expected)


def awaits_a_head(serving: Site) -> bool:
    """Whether there is a connection that is closed unless a head is whole in time."""
    return any(one._head_deadline is not None for one in serving._limit.members)


async def hasten(serving: Site) -> None:
    """Give the next head that begins on the one connection but a SHORT time."""
    await until(lambda: serving.connections)
    (connection,) = serving._limit.members
    connection._timeouts = Timeouts(head=SHORT)


@pytest.mark.parametrize("sent", [b"", b"GET", b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-More: "])
async def test_a_connection_without_a_whole_head_is_closed(sent: bytes) -> None:
    async with (
        a_server(a_house(), timeouts=Timeouts(head=SHORT)) as serving,
        callers(serving, 1) as (caller,),
    ):
        caller.send(sent)
        assert await caller.is_hung_up_on()


async def test_a_head_that_drips_is_closed_although_bytes_keep_coming() -> None:
    async with (
        a_server(a_house(), timeouts=Timeouts(head=SHORT)) as serving,
        callers(serving, 1) as (caller,),
    ):
        closed = asyncio.create_task(caller.is_hung_up_on(), name="closed")
        caller.send(b"GET /livez HTTP/1.1\r\n")
        while not closed.done():
            caller.send(b"X: y\r\n")
            await asyncio.sleep(SHORT / 10)
        assert await closed


async def test_the_second_head_on_a_connection_has_its_time_from_its_first_byte() -> None:
    async with (
        a_server(a_house(), timeouts=Timeouts(head=LONG)) as serving,
        callers(serving, 1) as (caller,),
    ):
        assert await caller.ask() == 200
        assert not awaits_a_head(serving)  # idle is not slow
        assert await caller.ask() == 200
        await hasten(serving)
        caller.send(b"GET /livez")
        assert await caller.is_hung_up_on()


@pytest.mark.parametrize(
    "whole",
    [
        ASK,
        CHECK.replace(b"\r\n\r\n", b"\r\nContent-Length: 2\r\n\r\nxy"),
        CHECK.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nxy\r\n0\r\n\r\n"),
    ],
)
async def test_half_a_head_in_the_segment_of_a_whole_request_is_closed(whole: bytes) -> None:
    async with (
        a_server(a_house(), timeouts=Timeouts(head=LONG)) as serving,
        callers(serving, 1) as (caller,),
    ):
        await hasten(serving)
        assert await caller.ask(whole + b"GET /livez HTTP/1.1\r\nX-Mo") == 200
        assert await caller.is_hung_up_on()


@pytest.mark.parametrize(
    "segments",
    [
        [ASK],
        [ASK + ASK],
        [CHECK.replace(b"\r\n\r\n", b"\r\nContent-Length: 2\r\n\r\nxy")],
        [CHECK.replace(b"\r\n\r\n", b"\r\nContent-Length: 6\r\n\r\n"), b"abc", b"xyz"],
        [CHECK.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n"), b"2\r\nxy\r\n0\r\n\r\n"],
        [ASK[:-1], ASK[-1:]],
        [ASK, b"\r\n"],
    ],
)
async def test_a_whole_request_leaves_the_connection_open(segments: list[bytes], arrived: bytearray) -> None:
    async with (
        a_server(a_house(), timeouts=Timeouts(head=LONG)) as serving,
        callers(serving, 1) as (caller,),
    ):
        for segment in segments:
            await deliver(caller, segment, arrived)
        for _ in range(2 if segments == [ASK + ASK] else 1):
            assert await caller.answer() == 200
        assert not awaits_a_head(serving)
        assert await caller.ask() == 200


async def test_half_a_head_waits_for_the_answer_to_the_request_before_it() -> None:
    house = a_house()
    hold = house.watches["door"].hold = asyncio.Event()
    async with a_server(house, timeouts=Timeouts(head=LONG)) as serving, callers(serving, 1) as (caller,):
        await hasten(serving)
        caller.send(CHECK + b"GET /li")
        await until(lambda: house.watches["door"].checks)
        await asyncio.sleep(3 * SHORT)
        hold.set()
        assert await caller.answer() == 200
        assert await caller.is_hung_up_on()


async def test_a_slow_body_is_not_a_slow_head(arrived: bytearray) -> None:
    async with (
        a_server(a_house(), timeouts=Timeouts(head=LONG)) as serving,
        callers(serving, 1) as (caller,),
    ):
        half = CHECK.replace(b"\r\n\r\n", b"\r\nContent-Length: 2\r\n\r\nx")
        await deliver(caller, half, arrived)
        assert not awaits_a_head(serving)
        assert await caller.ask(b"y") == 200


async def test_an_idle_connection_is_closed() -> None:
    async with (
        a_server(a_house(), timeouts=Timeouts(idle=SHORT)) as serving,
        callers(serving, 1) as (caller,),
    ):
        assert await caller.ask() == 200
        assert await caller.is_hung_up_on()


async def test_a_caller_who_does_not_read_his_answer_is_hung_up_on() -> None:
    house = a_house()
    house.watch("roof", Reading(findings=SHUT.findings, facts={"all": "x" * 20_000_000}))
    async with a_server(house, timeouts=Timeouts(write=SHORT)) as serving, callers(serving, 1) as (deaf,):
        deaf.send(ASK.replace(b"/livez", b"/health/roof"))
        await until(lambda: serving.busy)
        await until(lambda: not serving.connections)
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await deaf.reader.readexactly(20_000_000)


async def test_even_a_little_that_is_not_read_is_noticed() -> None:
    """Less than asyncio's own mark of 64 KiB, and more than the kernel takes."""
    house = a_house()
    house.watch("roof", Reading(findings=SHUT.findings, facts={"all": "x" * 50_000}))
    async with a_server(house, timeouts=Timeouts(write=SHORT, idle=LONG)) as serving:
        serving.listener.sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2048)
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            deaf.connect(("127.0.0.1", serving.listener.port))
            deaf.sendall(ASK.replace(b"/livez", b"/health/roof"))
            await until(lambda: serving.connections)
            await until(lambda: not serving.connections)


async def test_at_the_cap_the_longest_idle_connection_makes_room() -> None:
    async with a_server(a_house(), most=3) as serving, callers(serving, 3) as (first, second, third):
        assert [await caller.ask() for caller in (second, first, third)] == [200, 200, 200]
        async with callers(serving, 1) as (fourth,):
            assert await fourth.ask() == 200
            assert await second.is_hung_up_on()
            assert [await caller.ask() for caller in (first, third, fourth)] == [200, 200, 200]
            assert serving.connections == 3


async def test_at_the_cap_who_has_only_just_come_stays() -> None:
    async with a_server(a_house(), most=2) as serving, callers(serving, 1) as (idle,):
        assert await idle.ask() == 200
        async with callers(serving, 2) as (newer, newest):
            assert await newest.ask() == 200
            assert await idle.is_hung_up_on()
            assert await newer.ask() == 200


async def test_who_has_to_make_room_gets_503_although_the_request_is_still_on_its_way() -> None:
    house = a_house()
    async with a_server(house, most=8) as serving, callers(serving, 9) as crowd:
        await until(lambda: ("OTHER", "unmatched", 503) in house.metrics.requests)
        assert [await caller.ask() for caller in crowd] == [503] + [200] * 8
        assert await crowd[0].is_hung_up_on()
        assert serving.connections == 8
        async with callers(serving, 1) as (one,):
            assert await one.ask() == 200
            assert await crowd[1].ask() == 503, "a kept connection is answered too"


async def test_those_who_leave_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "LAST_MOMENT", LONG)
    async with a_server(a_house(), most=1) as serving, callers(serving, MOST_LEAVING + 3) as crowd:
        assert await crowd[MOST_LEAVING + 1].is_hung_up_on()
        assert (serving.connections, len(serving._limit.leaving)) == (1, MOST_LEAVING)


async def test_those_who_leave_go_although_they_do_not_close() -> None:
    async with a_server(a_house(), most=1) as serving, callers(serving, 3):
        await until(lambda: len(serving._limit.leaving) == 2)
        await until(lambda: not serving._limit.leaving)


async def test_a_thousand_idle_connections_keep_nobody_out() -> None:
    async with a_server(a_house(), most=8) as serving, callers(serving, 200):
        async with callers(serving, 1) as (caller,):
            assert await caller.ask() == 200
        assert serving.connections <= 8


async def test_connections_with_half_a_head_make_room_too() -> None:
    async with (
        a_server(a_house(), most=2, timeouts=Timeouts(head=LONG)) as serving,
        callers(serving, 2) as slow,
    ):
        for caller in slow:
            caller.send(b"GET /li")
        async with callers(serving, 1) as (caller,):
            assert await caller.ask() == 200


async def test_who_was_refused_first_and_still_sends_makes_room_when_none_is_idle() -> None:
    timeouts = Timeouts(linger=LONG)
    async with a_server(a_house(), most=3, timeouts=timeouts) as serving, callers(serving, 3) as refused:
        first, second, third = refused
        for caller in (second, first):
            assert await caller.ask(REFUSED) == 401
            await until(lambda: [one.lingers for one in serving._limit.members].count(True))
            await asyncio.sleep(0.01)  # the clock of the loop goes on
        assert await third.ask() == 200
        async with callers(serving, 1) as (one,):
            assert await one.ask() == 200
            assert await third.is_hung_up_on(), "who is idle goes first"
            assert await one.ask(REFUSED) == 401
            await until(lambda: all(one.lingers for one in serving._limit.members))
            async with callers(serving, 1) as (another,):
                assert await another.ask() == 200
                assert await second.is_hung_up_on()
                assert serving.connections == 3


class EarlyLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock begins below zero: no moment of it may stand for "never"."""

    def __init__(self) -> None:
        self._began = time.monotonic() + LONG
        super().__init__()

    def time(self) -> float:
        return super().time() - self._began


@pytest.mark.parametrize(
    "test",
    [
        test_at_the_cap_the_longest_idle_connection_makes_room,
        test_at_the_cap_who_has_only_just_come_stays,
        test_who_was_refused_first_and_still_sends_makes_room_when_none_is_idle,
    ],
)
def test_who_makes_room_depends_on_no_age_of_the_clock(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=EarlyLoop) as runner:
        runner.run(test())


async def test_when_none_is_idle_the_newcomer_gets_503_and_the_others_are_served() -> None:
    house = a_house()
    house.watches["door"].hold = asyncio.Event()
    async with a_server(house, most=2) as serving, callers(serving, 2) as busy:
        for caller in busy:
            caller.send(CHECK)
        await until(lambda: house.watches["door"].checks >= 2)
        async with callers(serving, 1) as (newcomer,):
            assert await newcomer.answer() == 503
            assert await newcomer.is_hung_up_on()
        house.watches["door"].hold.set()
        assert [await caller.answer() for caller in busy] == [200, 200]
    assert ("OTHER", "unmatched", 503) in house.metrics.requests


async def test_the_unix_socket_has_a_cap_of_its_own(tmp_path: Path) -> None:
    house = a_house()
    listener = Listener.unix(tmp_path / "s")
    app = make_app(house.parts, local=True)
    async with a_server(house, most=1) as serving, callers(serving, 1), Site(app, listener) as local:
        opened = [
            Caller(*await asyncio.open_unix_connection(str(tmp_path / "s"))) for _ in range(MOST_LOCAL + 3)
        ]
        assert await opened[-1].ask() == 200
        assert local.connections <= MOST_LOCAL
        for caller in opened:
            await caller.leave()
    listener.close()


async def test_stopping_lets_what_is_in_flight_finish_and_closes_what_is_idle() -> None:
    house = a_house()
    house.watches["door"].hold = asyncio.Event()
    async with a_server(house) as serving, callers(serving, 2) as (busy, idle):
        busy.send(CHECK)
        assert await idle.ask() == 200
        await until(lambda: house.watches["door"].checks)
        stopping = asyncio.create_task(serving.stop(LONG), name="stop")
        assert await idle.is_hung_up_on()
        assert not stopping.done()
        house.watches["door"].hold.set()
        assert await busy.answer() == 200
        assert await busy.is_hung_up_on()
        await stopping


async def test_stopping_lets_a_body_that_is_on_its_way_arrive() -> None:
    house = a_house()
    async with a_server(house) as serving, callers(serving, 1) as (caller,):
        caller.send(CHECK.replace(b"\r\n\r\n", b"\r\nContent-Length: 2\r\n\r\nx"))
        await until(lambda: serving.busy)
        stopping = asyncio.create_task(serving.stop(LONG), name="stop")
        await asyncio.sleep(SHORT)
        assert await caller.ask(b"y") == 200
        await stopping


async def test_stopping_does_not_wait_for_a_body_that_was_refused_before() -> None:
    async with (
        a_server(a_house(), timeouts=Timeouts(linger=LONG)) as serving,
        callers(serving, 1) as (caller,),
    ):
        assert await caller.ask(REFUSED) == 401
        await serving.stop(LONG)
        assert await caller.is_hung_up_on()


async def test_stopping_answers_what_comes_after_a_body_that_was_refused() -> None:
    house = a_house()
    hold = house.watches["door"].hold = asyncio.Event()
    async with a_server(house) as serving, callers(serving, 1) as (caller,):
        assert await caller.ask(REFUSED) == 401
        stopping = asyncio.create_task(serving.stop(LONG), name="stop")
        caller.send(b"0123456789" + CHECK)
        await until(lambda: house.watches["door"].checks)
        await asyncio.sleep(LAST_MOMENT * 1.5)
        hold.set()
        assert await caller.answer() == 200
        await stopping


async def test_stopping_does_not_wait_for_a_body_that_is_refused_meanwhile() -> None:
    async with (
        a_server(a_house(), timeouts=Timeouts(linger=LONG)) as serving,
        callers(serving, 1) as (caller,),
    ):
        await until(lambda: serving.connections)
        stopping = asyncio.create_task(serving.stop(LONG), name="stop")
        await until(lambda: not serving._servers[0].is_serving())
        assert await caller.ask(REFUSED) == 401
        await stopping


async def test_stopping_cuts_off_what_does_not_finish_in_time() -> None:
    house = a_house()
    house.watches["door"].hold = asyncio.Event()
    async with a_server(house) as serving, callers(serving, 1) as (busy,):
        busy.send(CHECK)
        await until(lambda: house.watches["door"].checks)
        await serving.stop(SHORT)
        assert await busy.is_hung_up_on()


async def test_stopping_lets_who_has_only_just_come_ask_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "LAST_MOMENT", LONG)
    async with a_server(a_house()) as serving, callers(serving, 1) as (late,):
        await until(lambda: serving.connections)
        stopping = asyncio.create_task(serving.stop(LONG), name="stop")
        await asyncio.sleep(SHORT)
        assert await late.ask() == 200
        assert await late.is_hung_up_on()
        await stopping


async def test_stopping_does_not_wait_long_for_who_came_and_says_nothing() -> None:
    async with (
        a_server(a_house(), timeouts=Timeouts(head=LONG, idle=LONG)) as serving,
        callers(serving, 1) as (silent,),
    ):
        await until(lambda: serving.connections)
        await serving.stop(LONG)
        assert await silent.is_hung_up_on()


async def test_stopping_without_anybody_is_over_at_once() -> None:
    async with a_server(a_house()) as serving:
        await serving.stop(LONG)


@asynccontextmanager
async def on_path(house: House, path: Path) -> AsyncIterator[Site]:
    """A server on the Unix socket *path*."""
    async with Site(make_app(house.parts, local=True), Listener.unix(path)) as serving:
        yield serving
    house.board.close()


async def test_a_server_whose_socket_is_bound_again_refuses_nobody(tmp_path: Path) -> None:
    answers: list[int] = []
    over = asyncio.Event()
    path = tmp_path / "s"

    async def keep_asking() -> None:
        """Ask on a new connection each time; a refused or broken one ends the test."""
        while not over.is_set():
            caller = Caller(*await asyncio.open_unix_connection(path))
            answers.append(await caller.ask(ASK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")))
            await caller.leave()

    async with on_path(a_house(), path) as serving:
        asking = asyncio.create_task(keep_asking(), name="ask")
        for _ in range(20):
            seen = len(answers)
            await until(lambda seen=seen: len(answers) > seen or asking.done())  # type: ignore[misc]
            await serving.move(serving.listener.bind_again())
        over.set()
        await asking
    assert set(answers) == {200}
    assert len(answers) >= 20


def unix_crowd(path: Path) -> list[socket.socket]:
    """Fifty connections to *path*, each with a request on its way."""
    crowd = [socket.socket(socket.AF_UNIX) for _ in range(50)]
    for one in crowd:
        one.connect(str(path))
        one.sendall(ASK)
        one.settimeout(0)
    return crowd


async def test_a_crowd_at_the_door_loses_nobody_when_the_socket_is_bound_again(tmp_path: Path) -> None:
    """At any moment one of them is accepted and not yet a connection: just that one must not be dropped."""
    async with on_path(a_house(), tmp_path / "s") as serving:
        crowd = unix_crowd(tmp_path / "s")
        for _ in range(3):
            await asyncio.sleep(0)
        await serving.move(serving.listener.bind_again())
        loop = asyncio.get_running_loop()
        answers = [await loop.sock_recv(one, 12) for one in crowd]
        for one in crowd:
            one.close()
    assert set(answers) == {b"HTTP/1.1 200"}


async def test_a_crowd_at_the_door_loses_nobody_when_the_server_stops() -> None:
    """Most of them are connected by the kernel alone, which resets what nobody has accepted."""
    async with a_server(a_house()) as serving:
        crowd = [
            socket.create_connection(("127.0.0.1", serving.listener.port), timeout=GIVE_UP) for _ in range(50)
        ]
        for one in crowd:
            one.sendall(ASK)
            one.settimeout(0)
        stopping = asyncio.create_task(serving.stop(LONG), name="stop")
        loop = asyncio.get_running_loop()
        answers = [await loop.sock_recv(one, 12) for one in crowd]
        for one in crowd:
            one.close()
        await stopping
    assert set(answers) == {b"HTTP/1.1 200"}


async def test_before_it_stops_every_answer_sends_its_caller_elsewhere() -> None:
    async with a_server(a_house()) as serving, callers(serving, 2) as (known, new):
        assert await known.ask() == 200
        serving.start_draining()
        known.send(ASK)
        assert b"\r\nConnection: close\r\n" in await known.reader.readuntil(b"\r\n\r\n")
        assert await known.reader.read() == b"alive\n", "the body, and then the end"
        assert await new.ask() == 200
        assert await new.is_hung_up_on()


async def test_connections_wait_in_the_kernel_until_an_application_serves() -> None:
    house = a_house()
    listener = Listener.tcp("127.0.0.1", 0)
    early = Caller(*await asyncio.open_connection("127.0.0.1", listener.port))
    early.send(ASK)
    async with Site(make_app(house.parts, local=False), listener):
        assert await early.answer() == 200
        await early.leave()
    house.board.close()


async def test_when_descriptors_run_out_the_server_pauses_and_comes_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """asyncio pauses for a second; it must not complain for each place in its backlog."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with a_server(a_house()) as serving, callers(serving, 1) as (old,):
        assert await old.ask() == 200
        with socket.socket() as late:
            late.settimeout(0)
            next_one = os.dup(0)
            os.close(next_one)
            resource.setrlimit(resource.RLIMIT_NOFILE, (next_one, hard))
            try:
                await asyncio.get_running_loop().sock_connect(late, ("127.0.0.1", serving.listener.port))
                await until(lambda: "out of system resource" in caplog.text)
                assert await old.ask() == 200
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            await asyncio.get_running_loop().sock_sendall(late, ASK)
            answer = await asyncio.get_running_loop().sock_recv(late, 100)
    assert b" 200 " in answer
    assert len([record for record in caplog.records if record.levelno >= logging.ERROR]) == 1
