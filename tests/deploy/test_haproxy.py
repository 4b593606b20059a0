"""A real HAProxy before two real daemons: whatever one of them goes through, no caller sees it."""

import http.client
import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import STRANGE
from tests.deploy.balancing import SHIPPED, Balancer, Load, balancer
from tests.installed import installed
from tests.running import GIVE_UP, Running, free_port

pytestmark = [pytest.mark.needs("haproxy"), pytest.mark.timeout(300)]
HEADERS = {"Content-Type": "application/json", "X-API-Key": "sesame-0123456789"}
WELL = {"findings": [{"name": "door", "status": "healthy", "summary": "the door is shut"}]}
PATIENT = {"server": "60s", "check": "20s"}
IMPATIENT = {"server": "3s", "check": "2s"}
ILL = {"findings": [{"name": "door", "status": "unhealthy", "summary": "the door is gone"}]}


class Host:
    """One daemon with a predictor, and a probe whose door is as told, at a port that stays."""

    def __init__(self, folder: Path, environment: dict[str, str], more: str) -> None:
        folder.mkdir()
        self.port = free_port()
        self.door = folder / "door.json"
        self.tell(WELL)
        self._folder = folder
        self._environment = environment
        self._text = f"""
[api]
api_keys = ["tests:act:754840467716f32606cd61fa2b90cb2ecfda8ce0b620e6e19d592b615aecba69"]
{more}
[probes.cave]
model = "cave"
takes = 0.02
[probes.steered]
path = "{self.door}"
"""
        self.daemon: Running | None = None

    def tell(self, reading: object) -> None:
        fresh = self.door.with_suffix(".new")
        fresh.write_text(json.dumps(reading), "utf-8")
        fresh.replace(self.door)

    def start(self) -> None:
        """Run it, or run it again."""
        self.end()
        arguments = ("--port", str(self.port))
        self.daemon = Running(self._folder, self._text, *arguments, environment=self._environment)
        self.daemon.__enter__()

    def end(self) -> None:
        if self.daemon is not None:
            self.daemon.__exit__(None, None, None)

    @property
    def process(self) -> subprocess.Popen[str]:
        assert self.daemon is not None
        return self.daemon.process


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Host]]:
    """Two that run: the first one drains before it stops, the second one stops at once."""
    folder = tmp_path_factory.mktemp("hosts")
    points = {"cave": "echoing:Echo", "steered": "steered:Steered"}
    environment = installed(folder, points, STRANGE)
    hosts = [Host(folder / "gpu1", environment, "drain_delay = 20"), Host(folder / "gpu2", environment, "")]
    try:
        for host in hosts:
            host.start()
        yield hosts
    finally:
        for host in hosts:
            host.end()


@pytest.fixture
def hosts(both: list[Host]) -> list[Host]:
    """Both run and are well, whatever a test before has left."""
    for host in both:
        host.tell(WELL)
        if host.process.poll() is not None:
            host.start()
    return both


@pytest.fixture
def front(hosts: list[Host], tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Balancer]:
    """The balancer, which knows that both are well, and waits long for a host that is merely slow.

    With the parameter "no retries" it asks nobody twice; with "impatient" it soon takes a host for frozen.
    """
    kind = getattr(request, "param", "")
    patience = IMPATIENT if kind == "impatient" else PATIENT
    ports = [host.port for host in hosts]
    with balancer(tmp_path, ports, retries=kind != "no retries", **patience) as running:
        running.wait("gpu1", "UP")
        running.wait("gpu2", "UP")
        yield running


@pytest.fixture
def load(front: Balancer) -> Iterator[Load]:
    """Asks all the time; at its end not one answer was anything but right."""
    with Load(front.port, HEADERS, b"[1]", b'{"echo": [1]}') as asking:
        asking.more()
        yield asking
    assert set(asking.answers) == {"right"}, asking.answers


def test_the_shipped_configuration_is_one() -> None:
    done = subprocess.run(["haproxy", "-c", "-f", SHIPPED], capture_output=True, text=True, timeout=GIVE_UP)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_host_that_turns_unhealthy_is_left_and_comes_back(
    hosts: list[Host], front: Balancer, load: Load
) -> None:
    hosts[0].tell(ILL)
    front.wait("gpu1", "DOWN")
    load.more()
    hosts[0].tell(WELL)
    front.wait("gpu1", "UP")
    load.more()


@pytest.mark.parametrize("front", ["no retries"], indirect=True)
def test_a_host_that_drains_is_left_before_it_stops_and_comes_back(
    hosts: list[Host], front: Balancer, load: Load
) -> None:
    hosts[0].process.terminate()
    front.wait("gpu1", "DOWN")
    assert hosts[0].process.poll() is None, "it stopped before the balancer knew"
    assert hosts[0].process.wait(60) == 0
    load.more()
    hosts[0].start()
    front.wait("gpu1", "UP")
    load.more()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_host_that_goes_without_a_word_fails_nobody(
    number: signal.Signals, hosts: list[Host], front: Balancer, load: Load
) -> None:
    hosts[1].process.send_signal(number)
    hosts[1].process.wait(GIVE_UP)
    load.more()
    hosts[1].start()
    front.wait("gpu2", "UP")
    load.more()


@pytest.mark.parametrize("front", ["impatient"], indirect=True)
def test_a_host_that_freezes_fails_nobody(hosts: list[Host], front: Balancer, load: Load) -> None:
    hosts[1].process.send_signal(signal.SIGSTOP)
    front.wait("gpu2", "DOWN")
    load.more()
    hosts[1].process.send_signal(signal.SIGCONT)
    front.wait("gpu2", "UP")
    load.more()


def test_nothing_passes_but_predictions_and_questions_about_models(front: Balancer) -> None:
    passed = {path: status(front.port, path) for path in ("/ping", "/version", "/v2/models/cave/ready")}
    assert set(passed.values()) == {200}, passed
    kept = {path: status(front.port, path) for path in ("/", "/health/", "/metrics", "/readyz", "/info")}
    assert set(kept.values()) == {404}, kept


def status(port: int, path: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=GIVE_UP)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()
