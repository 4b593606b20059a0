"""``mlopsd demo`` as a process, with what it prints, and the printed commands tried."""

import http.client
import json
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from mlopsd.cli.demo.folder import DemoFolder
from tests.cli.command import environment
from tests.running import CALM_SYSTEM, GIVE_UP

TRAINING_SECONDS = 4 * GIVE_UP  # for a hang; most of it is MLflow's imports and its tables


class Demo:
    """``mlopsd demo`` in *folder*, with what it prints."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = folder
        command = [sys.executable, "-m", "mlopsd", "demo", "--folder", str(folder), *arguments]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment()
        )
        self.lines: list[str] = []
        self._coming: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def until(self, wanted: Callable[[str], bool], seconds: float = TRAINING_SECONDS) -> str:
        """The first line from now on that is *wanted*."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                line = self._coming.get(timeout=max(deadline - time.monotonic(), 0.01))
            except queue.Empty:
                pytest.fail("not printed; printed:\n" + "".join(self.lines))
            self.lines.append(line)
            if wanted(line):
                return line
            assert line, "it has ended; printed:\n" + "".join(self.lines)

    @property
    def commands(self) -> list[str]:
        """What it says is worth trying."""
        return [
            line.strip() for line in self.lines if line.startswith(("  curl ", "  echo ", "  /", "  mlopsd "))
        ]

    def stop(self) -> int:
        """End it as Ctrl-C does; its exit status."""
        self.process.send_signal(signal.SIGINT)
        status = self.process.wait(GIVE_UP)
        self._reader.join(GIVE_UP)
        return status

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join(GIVE_UP)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._coming.put(line)
        self._coming.put("")


@contextmanager
def demo(folder: Path, port: int, *arguments: str) -> Iterator[Demo]:
    """The demo as soon as its daemon listens, which is after it has said all that it says itself."""
    with closing(Demo(folder, "--port", str(port), *arguments)) as running:
        running.until(lambda line: line.startswith("Ctrl-C ends"))
        running.until(lambda line: " listening " in line)
        yield running


def tried(line: str) -> str:
    """What *line*, given to a shell, prints."""
    done = subprocess.run(
        ["/bin/sh", "-c", line],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=TRAINING_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def reading(
    port: int, probe: str, wanted: Callable[[dict[str, Any]], bool], seconds: float = 180
) -> dict[str, Any]:
    """The reading of *probe*, as soon as it is *wanted*."""
    deadline = time.monotonic() + seconds
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=GIVE_UP)
        with closing(connection):
            connection.request("GET", f"/health/{probe}")
            answer: dict[str, Any] = json.loads(connection.getresponse().read())
        if wanted(answer):
            return answer
        assert time.monotonic() < deadline, answer
        time.sleep(0.2)


def is_healthy(answer: dict[str, Any]) -> bool:
    return bool(answer["status"] == "healthy")


def serves(number: str) -> Callable[[dict[str, Any]], bool]:
    def wanted(answer: dict[str, Any]) -> bool:
        served = answer.get("facts", {}).get("served") or {}
        return answer["status"] == "healthy" and served.get("version") == number

    return wanted


def calm(path: Path) -> None:
    """Change the configuration in *path*: no busy host may fail a test."""
    folder = DemoFolder(path)
    folder.create()
    folder.config.write_text(folder.config.read_text().replace("\n[probes.system]\n", CALM_SYSTEM))
