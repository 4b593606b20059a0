"""Two real daemons with a real model behind a real HAProxy: a restart fails no caller."""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.deploy.balancing import Balancer, Load, balancer
from tests.model.models.saved import rows, troubled
from tests.model.registrar import Registrar
from tests.model.registry_server import Shop
from tests.model.test_daemon_serves import hosts, restarts
from tests.running import Running, free_port

pytestmark = [pytest.mark.needs("haproxy"), pytest.mark.timeout(900)]
HEADERS = {"Content-Type": "application/json", "X-API-Key": "sesame-0123456789"}
ASK = rows(["do", "x"], ["", 7.0])
HAD = "process ended while it predicted"  # it may be what ended it, so it is not asked elsewhere
CALLERS = 8
TAKEN_UP = 180.0  # seconds for a version to serve, on a busy machine


@pytest.fixture
def text(newest: Shop, tmp_path: Path) -> str:
    """A configuration with a model that is registered."""
    model = Registrar(newest.uri, f"balanced {tmp_path.name}")
    model.register(troubled(tmp_path / "good"))
    model.point("1")
    canary = tmp_path / "canary.json"
    canary.write_bytes(rows(["do", "x"], ["", 1.0]))
    return f"""
[api]
api_keys = ["tests:act:754840467716f32606cd61fa2b90cb2ecfda8ce0b620e6e19d592b615aecba69"]
drain_delay = 5
[probes.model]
model = "{model.name}"
registries = [{{ uri = "{model.uri}" }}]
interval = "1s"
[probes.model.canary]
input = "{canary}"
"""


class Pair:
    """Two daemons at ports that stay, and the balancer before them."""

    def __init__(self, folder: Path, text: str, stack: ExitStack) -> None:
        self._folder = folder
        self._text = text
        self._stack = stack
        self._ports = (free_port(), free_port())
        self.daemons = [self.start(place) for place in (0, 1)]
        for daemon in self.daemons:
            daemon.until("/health/model", lambda reading: reading["status"] == "healthy", TAKEN_UP)
        self.front: Balancer = stack.enter_context(balancer(folder, self._ports))

    def start(self, place: int) -> Running:
        """Run daemon number *place*, in the folder that it had before."""
        folder = self._folder / f"gpu{place + 1}"
        folder.mkdir(exist_ok=True)
        port = ("--port", str(self._ports[place]))
        return self._stack.enter_context(Running(folder, self._text, *port, until="listening"))


@pytest.fixture
def pair(text: str, tmp_path: Path) -> Iterator[Pair]:
    with ExitStack() as stack:
        yield Pair(tmp_path, text, stack)


def test_a_daemon_that_restarts_fails_nobody_and_a_model_that_dies_only_whom_it_had(pair: Pair) -> None:
    front, (first, second) = pair.front, pair.daemons
    expected = second.ask("POST", "/invocations", HEADERS, body=ASK).body
    assert json.loads(expected) == {"predictions": [7.0]}
    with Load(front.port, HEADERS, ASK, expected, CALLERS) as load:
        load.more()
        second.process.terminate()
        front.wait("gpu2", "DOWN")
        assert second.process.wait(TAKEN_UP) == 0
        load.more()
        pair.start(1)
        front.wait("gpu2", "UP")
        load.more()
        assert set(load.answers) == {"right"}, load.answers
        (host,) = hosts(first)
        os.kill(host, signal.SIGKILL)
        first.until("/health/model", lambda reading: restarts(reading) == 1, TAKEN_UP)
        load.more()
    failed = [answer for answer in load.answers.elements() if answer != "right"]
    assert len(failed) <= CALLERS
    assert all(HAD in answer for answer in failed), failed
