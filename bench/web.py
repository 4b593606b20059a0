"""Requests as the callers of a health daemon make them: a scraper, a balancer, an operator."""

import gzip
import http.client
import json
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlopsd.cli.client import UnixConnection

ACCEPT = (  # Prometheus 2.42's
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
AS_PROMETHEUS = {
    "Accept": ACCEPT,
    "Accept-Encoding": "gzip",
    "User-Agent": "Prometheus/2.42.0",
    "X-Prometheus-Scrape-Timeout-Seconds": "10",
}
GZIP = b"\x1f\x8b"  # what is packed begins with
PATIENCE = 60.0
RELOADING_SECONDS = 300.0


class WebConnection:
    """One connection that is kept open."""

    def __init__(self, port: int) -> None:
        self._http = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> tuple[int, bytes]:
        """Return the code and the body."""
        self._http.request("GET", path, headers=dict(headers or {}))
        response = self._http.getresponse()
        return response.status, response.read()

    def post(self, path: str, body: bytes, content_type: str) -> tuple[int, bytes]:
        """Return the code and the body."""
        self._http.request("POST", path, body, {"Content-Type": content_type})
        response = self._http.getresponse()
        return response.status, response.read()

    def scrape(self) -> bytes:
        """Return the page as Prometheus asks for it, still packed."""
        status, body = self.get("/metrics", AS_PROMETHEUS)
        assert status == 200, status
        return body

    def close(self) -> None:
        """Hang up."""
        self._http.close()


def lines_of(port: int) -> int:
    """How many samples the page of the server at *port* has."""
    connection = WebConnection(port)
    try:
        page = connection.scrape()
    finally:
        connection.close()
    page = gzip.decompress(page) if page.startswith(GZIP) else page  # not every server packs
    return sum(not line.startswith(b"#") for line in page.splitlines())


def check_now(path: Path, probe: str) -> Any:
    """Have the daemon at the Unix socket *path* check *probe*; the reading."""
    status, body = _asked(path, "POST", f"/health/{probe}/check")
    assert status == 200, body
    return body


def reload_now(path: Path, probe: str, version: str) -> float:
    """Have the daemon at the Unix socket *path* reload *probe*; the seconds until *version* served.

    Raises:
        RuntimeError: it did not come to that.
    """
    began = time.perf_counter()
    status, answer = _asked(path, "POST", f"/health/{probe}/reload?wait=25s")
    while status == 202 and time.perf_counter() - began < RELOADING_SECONDS:
        time.sleep(0.1)
        reading = _asked(path, "GET", f"/health/{probe}")[1]
        if (reading["facts"].get("served") or {}).get("version") == version:
            return time.perf_counter() - began
    if status != 200:
        raise RuntimeError(f"version {version} does not serve: {answer}")
    return time.perf_counter() - began


def _asked(path: Path, method: str, target: str) -> tuple[int, Any]:
    connection = UnixConnection(str(path), PATIENCE)
    try:
        connection.request(method, target)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def wait_until_open(port: int, seconds: float = 30.0) -> None:
    """Wait until somebody listens on *port*.

    Raises:
        OSError: nobody did.
    """
    end = time.perf_counter() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            if time.perf_counter() > end:
                raise
            time.sleep(0.01)
        else:
            return


def wait_for_answer(port: int, path: str, seconds: float = 30.0) -> float:
    """When *path* first answered 200, on the clock of `time.perf_counter`.

    Raises:
        TimeoutError: it did not.
    """
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        connection = WebConnection(port)
        try:
            if connection.get(path)[0] == 200:
                return time.perf_counter()
        except OSError:
            pass
        finally:
            connection.close()
        time.sleep(0.002)
    raise TimeoutError(f"{path} at port {port} did not answer within {seconds} s")
