"""The channel to a child process: requests of many callers, answers in parts, notices, and its end."""

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from mlopsd.process import frames
from mlopsd.process.channel import MOST_NOTICES, ChannelClosed, RequestChannel
from mlopsd.process.child import CHANNEL, spawn
from mlopsd.process.frames import BadFrame, FrameLimits
from mlopsd_probes.model.mlopsd_host import wire
from tests.running import GIVE_UP

CHILD = f"""
import os, signal, socket, sys, time
sys.path[:0] = {sys.path!r}
from mlopsd_probes.model.mlopsd_host import wire
channel = socket.socket(fileno=int(sys.argv[1]))
inbox, kept = wire.Inbox(channel), []
while frames := inbox.wait():
    for header, body in frames:
        do = header["do"]
        if do == "keep":
            kept.append(header["id"])
        elif do == "release":
            for number in [header["id"], *reversed(kept)]:
                wire.send(channel, {{"id": number, "of": number}}, body)
        elif do == "parts":
            for at in range(3):
                wire.send(channel, {{"id": header["id"], "more": True, "at": at}})
            wire.send(channel, {{"id": header["id"]}})
        elif do == "say":
            wire.send(channel, header["header"])
        elif do == "hold":  # somebody else who holds the channel when the process has ended
            if os.fork() == 0:
                os.setsid()
                wire.send(channel, {{"id": header["id"], "pid": os.getpid()}})
                time.sleep(600)
        elif do == "die":
            os.kill(os.getpid(), signal.SIGKILL)
"""

Opened = Callable[..., Awaitable[RequestChannel]]


@asynccontextmanager
async def opened(limits: FrameLimits = frames.ANY_SIZE) -> AsyncIterator[RequestChannel]:
    child = await spawn((sys.executable, "-c", CHILD, CHANNEL), "child", logging.getLogger("mlopsd.test"))
    try:
        yield RequestChannel(child, limits)
    finally:
        await child.kill()


async def test_each_caller_gets_the_answer_to_its_own_request() -> None:
    async with opened() as channel, asyncio.timeout(30):
        asking = [asyncio.create_task(channel.ask({"do": "keep"})) for _ in range(5)]
        await asyncio.sleep(0)
        assert (await channel.ask({"do": "release"}, b"bytes"))[1] == b"bytes"
        assert [(await task)[0]["of"] for task in asking] == [1, 2, 3, 4, 5]
        assert (channel.answered, channel.unanswered, channel.idle.is_set()) == (6, [], True)


async def test_a_caller_that_is_cancelled_disturbs_nobody() -> None:
    async with opened() as channel, asyncio.timeout(30):
        left, other = (asyncio.create_task(channel.ask({"do": "keep"})) for _ in range(2))
        await asyncio.sleep(0.1)
        left.cancel()
        await asyncio.wait({left})
        assert [request["do"] for request in channel.unanswered] == ["keep", "keep"]
        await channel.ask({"do": "release"})
        assert (await other)[0]["of"] == 2
        await channel.idle.wait()


async def test_the_parts_of_an_answer_come_before_it() -> None:
    async with opened() as channel, asyncio.timeout(30):
        parts: list[Any] = []
        await channel.ask({"do": "parts"}, on_part=lambda part: parts.append(part["at"]))
        assert parts == [0, 1, 2]
        assert (channel.answered, channel.unanswered) == (1, [])


async def test_a_fault_in_reading_a_part_is_its_callers_alone() -> None:
    async with opened() as channel, asyncio.timeout(30):
        other = asyncio.create_task(channel.ask({"do": "keep"}))
        await asyncio.sleep(0)
        with pytest.raises(KeyError, match="nonesuch"):
            await channel.ask({"do": "parts"}, on_part=lambda part: part["nonesuch"])
        await channel.ask({"do": "release"})
        assert (await other)[0]["of"] == 1


async def test_a_frame_without_an_id_is_a_notice() -> None:
    async with opened() as channel, asyncio.timeout(30):
        for text in ("one", "two"):
            await channel.send({"do": "say", "header": {"text": text}})
        assert [(await channel.notice())["text"] for _ in range(2)] == ["one", "two"]


@pytest.mark.parametrize("number", [7, "1", [], None, 0.5])
async def test_an_answer_that_nobody_asked_for_ends_the_channel(number: object) -> None:
    async with opened() as channel, asyncio.timeout(30):
        asking = asyncio.create_task(channel.ask({"do": "keep"}))
        await channel.send({"do": "say", "header": {"id": number}})
        with pytest.raises(BadFrame, match="not to 1"):
            await asking
        with pytest.raises(BadFrame):
            await channel.ask({"do": "keep"})


async def test_more_notices_than_anybody_reads_end_the_channel() -> None:
    async with opened() as channel, asyncio.timeout(30):
        for at in range(MOST_NOTICES + 1):
            await channel.send({"do": "say", "header": {"at": at}})
        await channel.closed.wait()
        assert [(await channel.notice())["at"] for _ in range(MOST_NOTICES)] == list(range(MOST_NOTICES))
        for _ in range(2):
            with pytest.raises(BadFrame, match="more than 8 unread notices"):
                await channel.notice()


async def test_a_request_that_cannot_be_sent_harms_no_other() -> None:
    async with opened(FrameLimits(header=1000, body=10)) as channel, asyncio.timeout(30):
        for request, body in (
            ({"do": object()}, b""),
            ({"do": "x" * 1000}, b""),
            ({"do": "keep"}, b"x" * 11),
        ):
            with pytest.raises(BadFrame):
                await channel.ask(request, body)
        assert (await channel.ask({"do": "release"}))[0]["of"] == 1


@pytest.mark.parametrize("is_held", [False, True])
async def test_the_end_of_the_process_answers_everyone(*, is_held: bool) -> None:
    """Also where another process, which nobody finds, holds the channel."""
    async with opened() as channel, asyncio.timeout(30):
        holder = (await channel.ask({"do": "hold"}))[0]["pid"] if is_held else None
        asking = [asyncio.create_task(channel.ask({"do": "keep"})) for _ in range(3)]
        noticing = [asyncio.create_task(channel.notice()) for _ in range(2)]
        await channel.send({"do": "die"})
        results = await asyncio.gather(*asking, *noticing, return_exceptions=True)
        assert [type(result) for result in results] == [ChannelClosed] * 5
        await channel.child.wait(GIVE_UP)  # its end is known some time after that of the channel
        assert channel.child.was_killed
        if holder is not None:
            with suppress(ProcessLookupError):  # if this process adopts orphans, as after another test
                os.kill(holder, signal.SIGKILL)
        with pytest.raises(ChannelClosed):
            await channel.ask({"do": "keep"})


async def test_a_kill_ends_the_wait_for_a_process_that_does_not_read() -> None:
    async with opened() as channel, asyncio.timeout(30):
        await channel.ask({"do": "release"})
        os.kill(channel.child.pid, signal.SIGSTOP)
        asking = asyncio.create_task(channel.ask({"do": "keep"}, b"x" * 10_000_000))
        await asyncio.sleep(0.1)
        await channel.child.kill()
        with pytest.raises(ChannelClosed):
            await asking


@pytest.mark.parametrize(("header", "body"), [({"a": 1, "é": [None, 0.5]}, b""), ({}, b"\0\xff" * 1000)])
def test_a_models_interpreter_and_the_daemon_speak_of_the_same_frames(
    header: dict[str, Any], body: bytes
) -> None:
    """The two are written apart, since one runs where nothing of the other is."""
    assert wire.HEAD.format == frames.HEAD.format
    assert wire.packed(header, body) == frames.pack(header, len(body)) + body
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(frames.pack(header, len(body)) + body)
        assert wire.Inbox(theirs).wait() == [(header, body)]
        wire.send(theirs, header)
        with ours.makefile("rb") as stream:
            assert frames.receive(stream) == header
