"""A client of the running daemon: HTTP over its Unix socket or TCP, in bounded time."""

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

from mlopsd.cli.terminal.text import sanitize

TIMEOUT = 5.0  # seconds for an answer that the daemon has at hand
MOST_BYTES = 32 * 1024 * 1024


class DaemonUnreachable(Exception):
    """No daemon answers at an address; the text is the address and the reason."""


@dataclass(frozen=True, slots=True)
class DaemonResponse:
    """The response of the daemon; *body* is its JSON object."""

    status: int
    body: Mapping[str, Any]

    @property
    def is_success(self) -> bool:
        """True unless the status is 400 or more."""
        return self.status < HTTPStatus.BAD_REQUEST

    @property
    def detail(self) -> str:
        """The reason of a failure."""
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
        """Send a GET request.

        Raises:
            DaemonUnreachable: there is no response within `TIMEOUT`.
        """
        return self._request("GET", path, TIMEOUT)

    def post(self, path: str, timeout: float) -> DaemonResponse:
        """Send a POST request.

        Raises:
            DaemonUnreachable: there is no response within *timeout* seconds.
        """
        return self._request("POST", path, timeout)

    def _request(self, method: str, path: str, timeout: float) -> DaemonResponse:
        try:
            return _run_with_deadline(timeout, lambda: self._send(method, path, timeout))
        except TimeoutError as error:
            raise DaemonUnreachable(f"{self.address}: no answer within {timeout:g} s") from error
        except (OSError, http.client.HTTPException) as error:
            reason = error.strerror if isinstance(error, OSError) else None
            raise DaemonUnreachable(
                f"{self.address}: {sanitize(reason or error) or type(error).__name__}"
            ) from error
        except ValueError as error:
            raise DaemonUnreachable(
                f"{self.address}: the answer is not mlopsd's; is the address right?"
            ) from error

    def _send(self, method: str, path: str, timeout: float) -> DaemonResponse:
        connection = self._open_connection(timeout)
        try:
            connection.request(method, self._prefix + path, headers=self._headers())
            response = connection.getresponse()
            return _parse_response(response.status, response.read(MOST_BYTES))
        finally:
            connection.close()

    def _open_connection(self, timeout: float) -> http.client.HTTPConnection:
        if self.address.startswith("unix:"):
            return UnixConnection(self.address.removeprefix("unix:"), timeout)
        parts = urlsplit(self.address)
        https = parts.scheme == "https"
        connect = http.client.HTTPSConnection if https else http.client.HTTPConnection
        return connect(parts.hostname or "", parts.port, timeout=timeout)

    @property
    def _prefix(self) -> str:
        """The path that a proxy puts before those of the API."""
        return "" if self.address.startswith("unix:") else urlsplit(self.address).path.rstrip("/")

    def _headers(self) -> dict[str, str]:
        return {"Accept": "application/json"} | ({"Authorization": f"Bearer {self.key}"} if self.key else {})


def _run_with_deadline(seconds: float, send: Callable[[], DaemonResponse]) -> DaemonResponse:
    """Return or raise the outcome of *send*, if it ends within *seconds*.

    A socket's timeout is for each byte, and looking a name up has none.

    Raises:
        TimeoutError: *send* takes longer; it goes on in a thread that keeps no process from exiting.
    """
    ended: queue.SimpleQueue[DaemonResponse | Exception] = queue.SimpleQueue()

    def run() -> None:
        try:
            ended.put(send())
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


def _parse_response(status: int, body: bytes) -> DaemonResponse:
    """Return the response with *body*.

    Raises:
        ValueError: *body* is no JSON object.
    """
    found = json.loads(body)
    if not isinstance(found, dict):
        raise ValueError("no JSON object")  # noqa: TRY004  # as json.loads says of what is no JSON
    return DaemonResponse(status, found)
