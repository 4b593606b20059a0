"""A running daemon, as the command line asks it: HTTP over its Unix socket or TCP, in bounded time."""

import http.client
import json
import queue
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from mlopsd.cli.terminal.text import harmless

TIMEOUT = 5.0  # seconds for an answer that the daemon has at hand
MOST_BYTES = 32 * 1024 * 1024


class DaemonUnreachable(Exception):
    """Nothing that is mlopsd answers there, and why."""


@dataclass(frozen=True, slots=True)
class DaemonResponse:
    """What the daemon said; *body* is its JSON object."""

    status: int
    body: Mapping[str, Any]

    @property
    def went_well(self) -> bool:
        """Whether it did what was asked."""
        return self.status < HTTPStatus.BAD_REQUEST

    @property
    def detail(self) -> str:
        """Why it did not."""
        return str(self.body.get("detail") or self.body.get("title") or f"HTTP status {self.status}")


class UnixConnection(http.client.HTTPConnection):
    """HTTP over the Unix socket at *path*."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


@dataclass(frozen=True, slots=True)
class DaemonClient:
    """The daemon at *address*: ``http://…``, ``https://…`` or ``unix:/path``; *key* is its API key."""

    address: str
    key: str | None = None

    def get(self, path: str) -> DaemonResponse:
        """The answer to a question.

        Raises:
            NoAnswer: there is none within `TIMEOUT`.
        """
        return self._ask("GET", path, TIMEOUT)

    def post(self, path: str, timeout: float) -> DaemonResponse:
        """The answer to a request that acts.

        Raises:
            NoAnswer: there is none within *timeout* seconds.
        """
        return self._ask("POST", path, timeout)

    def _ask(self, method: str, path: str, timeout: float) -> DaemonResponse:
        try:
            return _within(timeout, lambda: self._exchange(method, path, timeout))
        except TimeoutError as error:
            raise DaemonUnreachable(f"{self.address}: no answer within {timeout:g} s") from error
        except (OSError, http.client.HTTPException) as error:
            reason = error.strerror if isinstance(error, OSError) else None
            raise DaemonUnreachable(
                f"{self.address}: {harmless(reason or error) or type(error).__name__}"
            ) from error
        except ValueError as error:
            raise DaemonUnreachable(
                f"{self.address}: the answer is not mlopsd's; is the address right?"
            ) from error

    def _exchange(self, method: str, path: str, timeout: float) -> DaemonResponse:
        connection = self._connection(timeout)
        try:
            connection.request(method, self._prefix + path, headers=self._headers())
            response = connection.getresponse()
            return _answer(response.status, response.read(MOST_BYTES))
        finally:
            connection.close()

    def _connection(self, timeout: float) -> http.client.HTTPConnection:
        if self.address.startswith("unix:"):
            return UnixConnection(self.address.removeprefix("unix:"), timeout)
        parts = urlsplit(self.address)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        return kind(parts.hostname or "", parts.port, timeout=timeout)

    @property
    def _prefix(self) -> str:
        """What a proxy has put before our own paths."""
        return "" if self.address.startswith("unix:") else urlsplit(self.address).path.rstrip("/")

    def _headers(self) -> dict[str, str]:
        return {"Accept": "application/json"} | ({"Authorization": f"Bearer {self.key}"} if self.key else {})


def _within(seconds: float, ask: Callable[[], DaemonResponse]) -> DaemonResponse:
    """What *ask* returns or raises, but for what it would take longer for: a socket's timeout is for each
    byte, and looking a name up has none.

    Raises:
        TimeoutError: it takes longer; it is left to itself, in a thread that keeps nobody from exiting.
    """
    ended: queue.SimpleQueue[DaemonResponse | Exception] = queue.SimpleQueue()

    def run() -> None:
        try:
            ended.put(ask())
        except Exception as error:  # noqa: BLE001  # raised below, where it is waited for
            ended.put(error)

    threading.Thread(target=run, name="ask the daemon", daemon=True).start()
    try:
        outcome = ended.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError from None
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def _answer(status: int, body: bytes) -> DaemonResponse:
    """The answer with *body*.

    Raises:
        ValueError: *body* is no JSON object.
    """
    found = json.loads(body)
    if not isinstance(found, dict):
        raise ValueError("no JSON object")  # noqa: TRY004  # as json.loads says of what is no JSON
    return DaemonResponse(status, found)
