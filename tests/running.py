"""A real daemon, started as an operator starts it, asked over its real doors."""

import http.client
import itertools
import json
import os
import queue
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from mlopsd.cli.client import UnixConnection
from tests.measured import end

GIVE_UP = 120.0  # seconds after which a test gives up on what never comes; no claim about the machine's pace
CALM_SYSTEM = """
[probes.system]
load_degraded = 1e6
disk_free_degraded = 0
disk_free_unhealthy = 0
inodes_free_degraded = 0
inodes_free_unhealthy = 0
memory_available_degraded = 0
memory_available_unhealthy = 0
pressure_memory_degraded = 1
pressure_memory_unhealthy = 1
cgroup_memory_degraded = 1
cgroup_memory_unhealthy = 1
cpu_throttled_limit = 1
clock_unsynchronised_after = "1d"
stuck_after = "1d"
timeout = 60
"""  # the real host's readings, waited for and judged so that no busy machine fails a test


def ports_of(worker: str) -> Iterator[int]:
    """A thousand ports for a worker of pytest-xdist, over and over, below those that callers are given."""
    first = 10_000 + 1_000 * int(worker.removeprefix("gw"))
    return itertools.cycle(random.sample(range(first, first + 1_000), 1_000))


PORTS = ports_of(os.environ.get("PYTEST_XDIST_WORKER", "gw0"))


def free_port() -> int:
    """A TCP port of loopback that nobody listens on, nor is given before whoever asks here listens on it."""
    for port in PORTS:
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError("an endless row has ended")


class Answer:
    """A status code, headers and a body."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Running(AbstractContextManager["Running"]):
    """``mlopsd run`` with the configuration *text*, on a free port, with all that it logs.

    Entering waits for *until* (an event in the log); leaving ends it, hard if it must be. *through* is a
    command that becomes the daemon.
    """

    def __init__(
        self,
        folder: Path,
        text: str,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        until: str = "started",
        through: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        self.config = folder / "config.toml"
        self.socket = folder / "s"
        self.config.write_text(self.framed(text), "utf-8")
        self._arguments = arguments
        self._environment = {**os.environ, **(environment or {})}
        self._until = until
        self._through = through
        self._lines: queue.Queue[dict[str, Any]] = queue.Queue()
        self.log: list[dict[str, Any]] = []

    def framed(self, text: str) -> str:
        """*text* with the places of this run before it."""
        return f'state_dir = "{self.folder / "state"}"\nsocket = "{self.socket}"\n{text}'

    def __enter__(self) -> "Running":
        run = [sys.executable, "-m", "mlopsd", "run", "--config", str(self.config), "--port", "0"]
        command = [*self._through, *run, *self._arguments]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, env=self._environment, text=True)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            self.wait_for(lambda line: line["event"] == self._until)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            end(self.process)
        self._reader.join(GIVE_UP)
        assert not self._reader.is_alive(), "a process of the daemon outlives it and holds its stderr"
        assert self.process.stderr is not None
        self.process.stderr.close()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def port(self) -> int:
        return int(self.event("listening")["api"].rsplit(":", 1)[1])

    def event(self, name: str) -> dict[str, Any]:
        """The first line of the log with this event."""
        return next(line for line in self.log if line["event"] == name)

    def events(self, name: str) -> list[dict[str, Any]]:
        """Every line so far with this event."""
        self._drain()
        return [line for line in self.log if line["event"] == name]

    def logged(self, name: str) -> dict[str, Any]:
        """The first line with this event, which may be still to come."""
        found = self.events(name)
        return found[0] if found else self.wait_for(lambda line: line["event"] == name)

    def wait_for(self, wanted: Callable[[dict[str, Any]], bool], seconds: float = GIVE_UP) -> dict[str, Any]:
        """The first line from now on that is *wanted*.

        Raises:
            AssertionError: it did not come.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                line = self._lines.get(timeout=max(deadline - time.monotonic(), 0.01))
            except queue.Empty:
                break
            self.log.append(line)
            if wanted(line):
                return line
        raise AssertionError(f"not logged within {seconds} s; logged: {self.log}")

    def get(self, path: str, **headers: str) -> Answer:
        """A GET over TCP."""
        return self.ask("GET", path, headers)

    def ask(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        *,
        body: bytes | None = None,
        local: bool = False,
    ) -> Answer:
        """A request, over the Unix socket if *local*."""
        connection = (
            UnixConnection(str(self.socket), GIVE_UP)
            if local
            else http.client.HTTPConnection("127.0.0.1", self.port, timeout=GIVE_UP)
        )
        try:
            connection.request(method, path, body, headers=dict(headers or {}))
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def until(self, path: str, wanted: Callable[[Any], bool], seconds: float = GIVE_UP) -> Any:
        """The JSON at *path* as soon as it is *wanted*.

        Raises:
            AssertionError: it never was.
        """
        deadline = time.monotonic() + seconds
        while not wanted(found := self.get(path).json):
            assert time.monotonic() < deadline, found
            time.sleep(0.05)
        return found

    def stop(self, number: signal.Signals = signal.SIGTERM) -> float:
        """Send *number* and wait for the end; the seconds that it took."""
        began = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(GIVE_UP)
        took = time.monotonic() - began
        self._reader.join(GIVE_UP)
        self._drain()
        return took

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            try:
                found = json.loads(line)
            except ValueError:
                found = {"event": "no json", "line": line.rstrip()}
            self._lines.put(found)

    def _drain(self) -> None:
        while not self._lines.empty():
            self.log.append(self._lines.get())
