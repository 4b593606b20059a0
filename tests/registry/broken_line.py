"""A line to a server that breaks after a number of bytes, or carries a few bytes at a time."""

import socket
import threading
from contextlib import AbstractContextManager, suppress
from types import TracebackType
from urllib.parse import urlsplit

CHUNK = 16 * 1024


class BrokenLine(AbstractContextManager["BrokenLine"]):
    """Passes TCP connections on to *upstream*.

    Attributes:
        breaks_after: bytes of the server after which a connection is cut; None for never.
        breaks: how many more connections are cut; then every line is whole.
        then: what follows the last break: "whole" or "dead" lines; "held" lines wait in place of a break.
        carried: bytes of the server that came through.
        connections: connections that were made.
    """

    def __init__(self, upstream: str) -> None:
        parts = urlsplit(upstream)
        self._upstream = (parts.hostname or "", parts.port or 80)
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._open: set[socket.socket] = set()
        self._ended = threading.Event()
        self.behave()

    def behave(self) -> None:
        """Carry everything from now on, and count from zero."""
        self.breaks_after: int | None = None
        self.breaks = 0
        self.then = "whole"
        self._cut()
        self.carried = self.connections = 0

    def break_after(self, size: int, breaks: int = 1, then: str = "whole") -> None:
        """Cut the next *breaks* connections after *size* bytes."""
        self.behave()
        self.breaks_after, self.breaks, self.then = size, breaks, then

    @property
    def is_dead(self) -> bool:
        """True if it carries nothing any more."""
        return self.then == "dead" and self.breaks == 0

    @property
    def uri(self) -> str:
        host, port = self._listener.getsockname()
        return f"http://{host}:{port}"

    def __enter__(self) -> "BrokenLine":
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._cut()
        for thread in self._threads:
            thread.join()

    def _cut(self) -> None:
        """Cut all connections, also those that are kept open for the next request."""
        with self._lock:
            for one in self._open:
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def _start(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self.connections += 1
                self._start(self._connect, near)

    def _connect(self, near: socket.socket) -> None:
        with near, suppress(OSError), socket.create_connection(self._upstream) as far:
            if self.is_dead:
                return
            with self._lock:
                self._open |= {near, far}
            back = threading.Thread(target=self._carry_back, args=(far, near))
            back.start()
            with suppress(OSError):
                while data := near.recv(CHUNK):
                    far.sendall(data)
            for one in (near, far):
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
            back.join()
        with self._lock:
            self._open -= {near, far}

    def _may_break(self) -> bool:
        """Return whether one more connection is to be cut; several may get as far at a time."""
        with self._lock:
            self.breaks -= 1 if (may_break := self.breaks > 0) else 0
            return may_break

    def _carry_back(self, far: socket.socket, near: socket.socket) -> None:
        left = self.breaks_after if self.breaks > 0 else None
        with suppress(OSError):
            while data := far.recv(CHUNK if left is None else min(CHUNK, left)):
                near.sendall(data)
                with self._lock:
                    self.carried += len(data)
                if left is not None and (left := left - len(data)) == 0:
                    if not self._may_break():
                        left = None
                        continue
                    if self.then == "held":
                        self._ended.wait()
                    if self.is_dead:
                        self._cut()
                    break
        for one in (near, far):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
