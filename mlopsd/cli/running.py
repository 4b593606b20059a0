"""A running daemon, as the command line asks it: HTTP over its Unix socket or TCP, in bounded time."""

import http.client
import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from mlopsd.cli.text import harmless

TIMEOUT = 5.0  # seconds for an answer that the daemon has at hand
MOST_BYTES = 32 * 1024 * 1024


class NoAnswer(Exception):
    """Nothing that is mlopsd answers there, and why."""


@dataclass(frozen=True, slots=True)
class Answer:
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
class Running:
    """The daemon at *address*: ``http://…``, ``https://…`` or ``unix:/path``; *key* is its API key."""

    address: str
    key: str | None = None

    def get(self, path: str) -> Answer:
        """The answer to a question.

        Raises:
            NoAnswer: there is none within `TIMEOUT`.
        """
        return self._ask("GET", path, TIMEOUT)

    def post(self, path: str, timeout: float) -> Answer:
        """The answer to a request that acts.

        Raises:
            NoAnswer: there is none within *timeout* seconds.
        """
        return self._ask("POST", path, timeout)

    def _ask(self, method: str, path: str, timeout: float) -> Answer:
        connection = self._connection(timeout)
        try:
            connection.request(method, self._prefix + path, headers=self._headers())
            response = connection.getresponse()
            return _answer(response.status, response.read(MOST_BYTES))
        except TimeoutError as error:
            raise NoAnswer(f"{self.address}: no answer within {timeout:g} s") from error
        except (OSError, http.client.HTTPException) as error:
            reason = error.strerror if isinstance(error, OSError) else None
            raise NoAnswer(f"{self.address}: {harmless(reason or error) or type(error).__name__}") from error
        except ValueError as error:
            raise NoAnswer(f"{self.address}: the answer is not mlopsd's; is the address right?") from error
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


def _answer(status: int, body: bytes) -> Answer:
    """The answer with *body*.

    Raises:
        ValueError: *body* is no JSON object.
    """
    found = json.loads(body)
    if not isinstance(found, dict):
        raise ValueError("no JSON object")  # noqa: TRY004  # as json.loads says of what is no JSON
    return Answer(status, found)
