"""``python -m chaos.asking PORT REQUESTS CONNECTIONS``: asks, and prints how often what was answered."""

import asyncio
import itertools
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator

from typing_extensions import override

OFTEN = ("/health/", "/livez", "/readyz", "/health/looped_0", "/info") * 4
PATHS = (*OFTEN, "/metrics", *OFTEN, "/metrics", "/health/detailed")  # as often as machines ask for them
LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
END = b"\r\n\r\n"


class Line(asyncio.Protocol):
    """One kept connection that asks as long as *turns* has paths; *told* takes the status codes."""

    def __init__(self, turns: Iterator[bytes], reported: Counter[str], over: asyncio.Event) -> None:
        self._turns = turns
        self._reported = reported
        self._over = over
        self._read = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the first time."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._ask()

    def data_received(self, data: bytes) -> None:
        """Ask again when the answer is whole."""
        self._read += data
        head = self._read.find(END)
        if head < 0:
            return
        length = LENGTH.search(self._read, 0, head)
        if length is None:
            self._end("no length")
        elif len(self._read) >= head + len(END) + int(length[1]):
            self._reported[self._read[9:12].decode()] += 1
            self._read.clear()
            self._ask()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        """Whoever still waits for an answer has lost it."""
        if not self._over.is_set():
            self._end("lost")

    def _ask(self) -> None:
        request = next(self._turns, None)
        if request is None:
            self._over.set()
            self._transport.close()
        else:
            self._transport.write(request)

    def _end(self, how: str) -> None:
        self._reported[how] += 1
        self._over.set()


async def asked(port: int, requests: int, connections: int) -> Counter[str]:
    """Count the status codes of *requests* over *connections*."""
    paths = itertools.cycle(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() for path in PATHS)
    turns = itertools.islice(paths, requests)
    reported: Counter[str] = Counter()
    loop = asyncio.get_running_loop()
    overs = [asyncio.Event() for _ in range(connections)]
    for over in overs:
        await loop.create_connection(lambda over=over: Line(turns, reported, over), "127.0.0.1", port)  # type: ignore[misc]
    for over in overs:
        await over.wait()
    return reported


if __name__ == "__main__":
    print(json.dumps(asyncio.run(asked(*map(int, sys.argv[1:4])))))
