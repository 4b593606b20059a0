"""A host with pretended GPUs: the real pynvml in a process of its own, over the fake driver library."""

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from mlopsd_probes.fake_nvml import build
from tests.running import GIVE_UP

CHILD = Path(__file__).with_name("asked.py")
ANSWER_SECONDS = GIVE_UP  # a hang is waited for with less


class NoAnswer(Exception):
    """The process has not answered in time."""


class Host:
    """A process with pynvml on a host whose GPUs are those of a scenario.

    Attributes:
        scenario: its file; `steer` replaces what it says while the process runs.
        environment: what makes a process see these GPUs.
    """

    def __init__(self, scenario: Path, environment: dict[str, str]) -> None:
        self.scenario = scenario
        self.environment = environment
        self._process = subprocess.Popen(
            [sys.executable, str(CHILD)],
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, question: str, within: float = ANSWER_SECONDS) -> Any:
        """What Python says to *question*, where ``n`` is pynvml; ``{"error": NAME}`` for an NVMLError.

        Raises:
            NoAnswer: it takes longer than *within* seconds; ask again with `late_answer`.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return self.late_answer(within)

    def late_answer(self, within: float = ANSWER_SECONDS) -> Any:
        """The answer to what was asked before."""
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], within)[0]:
            raise NoAnswer
        line = self._process.stdout.readline()
        assert line, f"it ended: {self.end(signal.SIGKILL)}"
        return json.loads(line)

    def init(self) -> Any:
        """``nvmlInit`` and a list ``h`` of the handles that can be had."""
        answer = self.ask("n.nvmlInit()")
        if answer is None:
            self.ask("h = [n.nvmlDeviceGetHandleByIndex(i) for i in range(n.nvmlDeviceGetCount())]")
        return answer

    def steer(self, *lines: str) -> None:
        """Add *lines* to the scenario."""
        build.steer(self.scenario, self.scenario.read_text() + "\n[host]\n" + "\n".join(lines) + "\n")

    def unsay(self, *lines: str) -> None:
        """Take *lines* out of the scenario."""
        kept = [line for line in self.scenario.read_text().splitlines() if line not in lines]
        build.steer(self.scenario, "\n".join(kept) + "\n")

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self, within: float) -> int:
        return self._process.wait(within)

    def end(self, number: signal.Signals = signal.SIGKILL) -> str:
        """End it; what it wrote to stderr."""
        if self._process.poll() is None:
            self._process.send_signal(number)
        return self._process.communicate(timeout=ANSWER_SECONDS)[1]


class Start(Protocol):
    def __call__(self, name: str, *lines: str, calls: Path | None = None) -> Host: ...


@pytest.fixture(scope="session")
def fakes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the fake library is compiled, once for all tests; warnings are errors."""
    folder = tmp_path_factory.mktemp("fake-nvml")
    build.library(folder, "-Wall", "-Wextra", "-Werror")
    build.library(folder)
    return folder


@pytest.fixture
def on_host(fakes: Path, tmp_path: Path) -> Iterator[Start]:
    """Start a process on a host of the scenario *name*, a copy of it to which *lines* are added."""
    hosts: list[Host] = []

    def start(name: str, *lines: str, calls: Path | None = None) -> Host:
        scenario = tmp_path / f"{len(hosts)}-{name}"
        output = build.scenario(name).read_text() if name else ""
        scenario.write_text(output + "\n[host]\n" + "\n".join(lines) + "\n")
        hosts.append(Host(scenario, build.environment(scenario, fakes, calls=calls)))
        return hosts[-1]

    yield start
    for host in hosts:
        host.end()
