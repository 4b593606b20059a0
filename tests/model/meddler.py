"""A proxy in front of a real registry, with faults that a test chooses.

The faults are real: missing bytes, broken connections, and answers that are not MLflow's.
"""

import http.client
import json
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType, TracebackType
from urllib.parse import urlsplit

from typing_extensions import override

from tests.running import GIVE_UP

KEPT = ("ETag", "Accept-Ranges", "Content-Range", "x-amz-checksum-sha256")
Act = Callable[["Handler"], None]
Rule = Callable[[str], Act | None]


@dataclass(frozen=True)
class Asked:
    """A request that came: its path with the query, its ``Authorization`` and its method."""

    path: str
    authorization: str | None
    method: str


class Meddler(AbstractContextManager["Meddler"]):
    """Passes requests on to *upstream*; *rule* says by the path what is done instead, None for nothing."""

    def __init__(self, upstream: str = "http://127.0.0.1:1") -> None:
        self.upstream = urlsplit(upstream)
        self.rule: Rule = lambda path: None
        self.asked: list[Asked] = []
        self.over = threading.Event()

    def __enter__(self) -> "Meddler":
        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.meddler = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.behave()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def meddle(self, part: str, act: Act) -> None:
        """From now on *act* where the path contains *part*, and nothing else."""
        self.behave()
        self.rule = lambda path: act if part in path else None

    def behave(self) -> None:
        """Pass everything on, and let go of whoever is kept waiting."""
        self.asked.clear()
        self.over.set()
        self.over = threading.Event()
        self.rule = lambda path: None


class Server(ThreadingHTTPServer):
    """Its threads end with the test: what holds a request back waits for `Meddler.over`."""

    meddler: Meddler
    daemon_threads = False
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is what most of these tests are about."""


class Handler(BaseHTTPRequestHandler):
    """One request; HTTP/1.0, so that each has a connection of its own."""

    server: Server

    def do_GET(self) -> None:
        self.handle_one()

    def do_POST(self) -> None:
        self.handle_one()

    def do_HEAD(self) -> None:
        self.handle_one()

    def handle_one(self) -> None:
        meddler = self.server.meddler
        meddler.asked.append(Asked(self.path, self.headers["Authorization"], self.command))
        (meddler.rule(self.path) or Handler.pass_on)(self)

    def pass_on(self) -> None:
        status, headers, body = self.upstream_answer(self.path)
        length = int(headers.get("Content-Length") or len(body)) if self.command == "HEAD" else None
        self.answer(status, headers.get("Content-Type", ""), body, length, kept(headers))

    def upstream_answer(self, path: str) -> tuple[int, http.client.HTTPMessage, bytes]:
        """What the real registry says to this request for *path*."""
        upstream = self.server.meddler.upstream
        size = int(self.headers.get("Content-Length") or 0)
        connection = http.client.HTTPConnection(upstream.hostname or "", upstream.port, timeout=20)
        try:
            kept = {name: value for name, value in self.headers.items() if name.lower() != "host"}
            connection.request(self.command, path, self.rfile.read(size) or None, kept)
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    def answer(
        self,
        status: int,
        content_type: str,
        body: bytes,
        length: int | None = None,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    @override
    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""


def kept(headers: http.client.HTTPMessage) -> dict[str, str]:
    """Return those of *headers* that a client of files reads beside the type and the length."""
    return {name: headers[name] for name in KEPT if name in headers}


def status(code: int, content_type: str = "text/html", body: bytes = b"<html></html>") -> Act:
    """Answers *code*."""
    return lambda handler: handler.answer(code, content_type, body)


def once(act: Act) -> Act:
    """*act* for the first request, then as if nothing had been."""
    left = [act]

    def act_or_pass_on(handler: Handler) -> None:
        (left.pop() if left else Handler.pass_on)(handler)

    return act_or_pass_on


def silence(handler: Handler) -> None:
    """Never answers."""
    handler.server.meddler.over.wait(10 * GIVE_UP)


def drip(handler: Handler) -> None:
    """The real answer, a byte every 100 ms."""
    code, headers, body = handler.upstream_answer(handler.path)
    handler.answer(code, headers.get("Content-Type", ""), b"", len(body))
    over = handler.server.meddler.over
    for index in range(len(body)):
        if over.wait(0.1):
            return
        handler.wfile.write(body[index : index + 1])
        handler.wfile.flush()


def stall(handler: Handler) -> None:
    """The first half of the real answer, and then nothing."""
    code, headers, body = handler.upstream_answer(handler.path)
    handler.answer(code, headers.get("Content-Type", ""), body[: len(body) // 2], len(body))
    handler.wfile.flush()
    handler.server.meddler.over.wait(10 * GIVE_UP)


def break_off(handler: Handler) -> None:
    """The first half of the real answer, and the connection is closed."""
    code, headers, body = handler.upstream_answer(handler.path)
    handler.answer(code, headers.get("Content-Type", ""), body[: len(body) // 2], len(body))


def shorten(handler: Handler) -> None:
    """Half of the real answer, as if it were whole."""
    code, headers, body = handler.upstream_answer(handler.path)
    handler.answer(code, headers.get("Content-Type", ""), body[: len(body) // 2])


def slowly(handler: Handler) -> None:
    """The real answer, whole, after a moment."""
    time.sleep(0.3)
    handler.pass_on()


def instead(old: str, new: str) -> Act:
    """The real registry's answer to another question: *new* for *old* in the path."""

    def ask(handler: Handler) -> None:
        code, headers, body = handler.upstream_answer(handler.path.replace(old, new))
        handler.answer(code, headers.get("Content-Type", ""), body)

    return ask


def endless(handler: Handler) -> None:
    """Sends bytes until the client hangs up."""
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(bytes(1_000_000))


def redirect(to: str) -> Act:
    """Sends the client to the same path at *to*."""

    def send(handler: Handler) -> None:
        handler.send_response(302)
        handler.send_header("Location", f"{to}{handler.path}")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return send


def listing(*files: tuple[str, int | None]) -> Act:
    """Lists *files*, each a path and a size if that is known, as what a version consists of."""
    found: list[dict[str, object]] = [
        {"path": path, "is_dir": False, **({} if size is None else {"file_size": size})}
        for path, size in files
    ]
    return status(200, "application/json", json.dumps({"files": found}).encode())
