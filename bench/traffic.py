"""Callers that ask for predictions, each again as soon as it has its answer, in a process of their own.

``python -m bench.traffic PORT CONNECTIONS ROWS`` asks until its standard input ends, waits for what is in
flight, and prints what came. The connections are plain sockets in one epoll: a parser of HTTP or an event
loop would cost more than what is measured.
"""

import json
import re
import select
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import count
from types import TracebackType
from typing import Self

from bench.questions import JSON, body

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
END_OF_HEAD = b"\r\n\r\n"
CHUNK = 1 << 20
DIFFERENT = 8  # bodies, which the connections take in turn
PATIENCE = 60.0  # seconds for what is in flight at the end
NO_ANSWER = 0  # in place of a code: hung up on, or nothing came


@dataclass(frozen=True, slots=True)
class Answered:
    """One request: when it was sent on the clock of `time.perf_counter`, how long it took, and the code."""

    began: float
    seconds: float
    code: int


@dataclass(frozen=True, slots=True)
class TrafficResult:
    """What came of all requests, and the CPU seconds that asking cost."""

    answers: Sequence[Answered]
    cpu: float

    @property
    def failed(self) -> int:
        """How many were not answered with 200."""
        return sum(answer.code != 200 for answer in self.answers)


class RequestLoad(AbstractContextManager["RequestLoad"]):
    """*connections* that ask the server at *port* for *rows* at a time, from entering on."""

    def __init__(self, port: int, connections: int, rows: int) -> None:
        command = [sys.executable, "-m", "bench.traffic", *map(str, (port, connections, rows))]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __enter__(self) -> Self:
        assert self._process.stdout is not None
        self._process.stdout.readline()  # it begins
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()

    def end(self) -> TrafficResult:
        """Ask no more; what came of all that was asked."""
        reported, _ = self._process.communicate()
        found = json.loads(reported)
        return TrafficResult([Answered(*each) for each in found["answers"]], found["cpu"])


class _Line:
    """One connection and the request on it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.connect()

    def connect(self) -> None:
        """Anew, with nothing sent and nothing come."""
        self.socket = socket.create_connection(("127.0.0.1", self._port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.settimeout(0)
        self.left = memoryview(b"")
        self._come = bytearray()
        self._whole = 0  # bytes of the answer, when that is known

    def ask(self, request: bytes) -> None:
        """Send as much of *request* as goes; the rest is `left`."""
        self.began = time.perf_counter()
        self.left = memoryview(request)
        self.send()

    def send(self) -> None:
        """Send on."""
        try:
            while self.left:
                self.left = self.left[self.socket.send(self.left) :]
        except BlockingIOError:
            return

    def code(self) -> int | None:
        """Of the answer, when it is whole; None before. An `OSError` is no answer either."""
        if not (part := self.socket.recv(CHUNK)):
            raise ConnectionResetError
        self._come += part
        if not self._whole:
            at = self._come.find(END_OF_HEAD)
            if at < 0:
                return None
            length = LENGTH.search(self._come, 0, at + len(END_OF_HEAD))
            assert length is not None, bytes(self._come[:at])
            self._whole = at + len(END_OF_HEAD) + int(length[1])
        if len(self._come) < self._whole:
            return None
        code = int(self._come[9:12])
        self._come.clear()
        self._whole = 0
        return code


class _Asking:
    """The connections and what came over them."""

    def __init__(self, port: int, connections: int, rows: int) -> None:
        self._requests = [_request(port, rows, seed) for seed in range(DIFFERENT)]
        self._number = count()
        self._epoll = select.epoll()
        self._lines: dict[int, _Line] = {}
        self._answers: list[tuple[float, float, int]] = []
        self._ending = False
        for _ in range(connections):
            self._know(_Line(port))
        self._epoll.register(sys.stdin.fileno(), select.EPOLLIN)

    def run(self) -> list[tuple[float, float, int]]:
        """Ask until told to end, and then wait for the last answers."""
        for line in list(self._lines.values()):
            self._ask(line)
        give_up = float("inf")
        while self._lines and time.perf_counter() < give_up:
            for descriptor, events in self._epoll.poll(1):
                if descriptor == sys.stdin.fileno():
                    self._epoll.unregister(descriptor)
                    self._ending, give_up = True, time.perf_counter() + PATIENCE
                else:
                    self._turn(self._lines[descriptor], events)
        self._answers += [(line.began, PATIENCE, NO_ANSWER) for line in self._lines.values()]
        return self._answers

    def _turn(self, line: _Line, events: int) -> None:
        try:
            if events & select.EPOLLOUT:
                line.send()
                if not line.left:
                    self._epoll.modify(line.socket.fileno(), select.EPOLLIN)
            code = line.code() if events & ~select.EPOLLOUT else None
        except OSError:
            code = NO_ANSWER
        if code is None:
            return
        self._answers.append((line.began, time.perf_counter() - line.began, code))
        if self._ending or code == NO_ANSWER:
            self._forget(line)
        if not self._ending:
            self._ask_again(line, code)

    def _ask_again(self, line: _Line, code: int) -> None:
        if code == NO_ANSWER:
            try:
                line.connect()
            except OSError:  # nobody is there: that one asks no more
                return
            self._know(line)
        self._ask(line)

    def _ask(self, line: _Line) -> None:
        try:
            line.ask(self._requests[next(self._number) % DIFFERENT])
        except OSError:  # hung up on, which reading will tell
            return
        if line.left:
            self._epoll.modify(line.socket.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def _know(self, line: _Line) -> None:
        self._lines[line.socket.fileno()] = line
        self._epoll.register(line.socket.fileno(), select.EPOLLIN)

    def _forget(self, line: _Line) -> None:
        self._lines.pop(line.socket.fileno())
        line.socket.close()  # which takes it out of the epoll


def _request(port: int, rows: int, seed: int) -> bytes:
    content = body(rows, seed)
    head = (
        f"POST /invocations HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        f"Content-Type: {JSON}\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


def main() -> None:
    """Ask as the arguments say."""
    asking = _Asking(*map(int, sys.argv[1:]))
    print(flush=True)
    before = time.process_time()
    answers = asking.run()
    json.dump({"answers": answers, "cpu": time.process_time() - before}, sys.stdout)


if __name__ == "__main__":
    main()
