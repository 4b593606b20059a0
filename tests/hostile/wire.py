"""Bytes to a daemon and bytes from it, over connections that keep to no client's manners."""

import contextlib
import json
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.running import GIVE_UP, Running

PATIENCE = GIVE_UP
LENGTH = re.compile(rb"\r\ncontent-length: (\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Reply:
    """One answer as it came."""

    status: int
    head: bytes
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def header(self, name: str) -> str | None:
        found = re.search(rb"\r\n" + name.encode() + rb": ([^\r\n]*)", self.head, re.IGNORECASE)
        return found[1].decode("latin-1") if found else None


def connect(daemon: Running, source: str = "127.0.0.1") -> socket.socket:
    """A connection over TCP from the loopback address *source*."""
    return socket.create_connection(("127.0.0.1", daemon.port), PATIENCE, source_address=(source, 0))


LAST = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: the-last\r\nConnection: close\r\n\r\n"


def send(daemon: Running, sent: bytes) -> list[Reply]:
    """Every answer to *sent*, whether the daemon ends the connection then or has to be told to."""
    with connect(daemon) as plug:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            plug.sendall(sent + LAST)
        found = list(replies(read_all(plug)))
    return found[:-1] if found and found[-1].header("x-request-id") == "the-last" else found


def first(daemon: Running, sent: bytes) -> Reply:
    """The answer to *sent*, on a connection of which nothing more is expected."""
    with connect(daemon) as plug:
        plug.sendall(sent)
        came = b""
        while b"\r\n\r\n" not in came or not _is_whole(came):
            part = plug.recv(65536)
            assert part, f"half an answer: {came!r}"
            came += part
    return next(replies(came))


def _is_whole(stream: bytes) -> bool:
    head, _, body = stream.partition(b"\r\n\r\n")
    found = LENGTH.search(head)
    return found is None or len(body) >= int(found[1])


def read_all(plug: socket.socket) -> bytes:
    """What comes until the other end closes, however it does that."""
    parts = []
    try:
        while part := plug.recv(65536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def replies(stream: bytes) -> Iterator[Reply]:
    """The answers in *stream*, which must hold nothing besides.

    Raises:
        AssertionError: what came is no row of answers, as after a response that was split.
    """
    while stream:
        head, end, rest = stream.partition(b"\r\n\r\n")
        assert end, f"half a head: {stream!r}"
        assert head.startswith(b"HTTP/1."), head
        found = LENGTH.search(head)
        length = int(found[1]) if found else 0
        yield Reply(int(head.split()[1]), head, rest[:length])
        stream = rest[length:]


def memory(daemon: Running) -> int:
    """The daemon's resident bytes."""
    return int(Path(f"/proc/{daemon.pid}/statm").read_text("ascii").split()[1]) * 4096


def descriptors(daemon: Running) -> int:
    """How many files the daemon has open."""
    return len(list(Path(f"/proc/{daemon.pid}/fd").iterdir()))
