"""A real HAProxy with the configuration that is shipped, and callers who never stop asking it."""

import csv
import http.client
import io
import re
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.running import GIVE_UP, free_port

SHIPPED = Path(__file__).parents[2] / "deploy/haproxy/haproxy.cfg"
SECONDS = 180.0  # for anything to happen, on a busy machine


class Balancer:
    """A HAProxy that runs."""

    def __init__(self, port: int, control: Path) -> None:
        self.port = port
        self._control = control

    def state(self, server: str) -> str:
        """What it thinks of *server*: ``UP``, ``DOWN``, on the way between them ``UP 1/2`` and the like."""
        with socket.socket(socket.AF_UNIX) as control:
            control.settimeout(GIVE_UP)
            control.connect(str(self._control))
            control.sendall(b"show stat\n")
            table = control.makefile("r", encoding="ascii").read()
        rows = csv.DictReader(io.StringIO(table.removeprefix("# ")))
        (found,) = [row for row in rows if row["svname"] == server]
        return found["status"]

    def wait(self, server: str, state: str) -> None:
        """Until it thinks so.

        Raises:
            AssertionError: it never did.
        """
        deadline = time.monotonic() + SECONDS
        while (found := self.state(server)) != state:
            assert time.monotonic() < deadline, f"{server} is {found}"
            time.sleep(0.02)


def shipped(places: Mapping[str, str]) -> str:
    """The shipped configuration, each text of *places* replaced by its other; every one must be there."""
    text = SHIPPED.read_text("utf-8")
    for old, new in places.items():
        assert text.count(old) == 1, f"{old!r} is not once in {SHIPPED.name}"
        text = text.replace(old, new)
    return text


@contextmanager
def balancer(folder: Path, ports: Sequence[int], *, retries: bool = True, **times: str) -> Iterator[Balancer]:
    """The shipped configuration in front of daemons at *ports*, with other *times* where they are given.

    Without *retries* what was sent to one daemon is never sent to another.
    """
    control, port = folder / "h", free_port()
    places = {"/run/haproxy/admin.sock": str(control), "bind :8080": f"bind 127.0.0.1:{port}"}
    for number, place in enumerate(ports, 1):
        places[f"192.0.2.{10 + number}:9178"] = f"127.0.0.1:{place}"
    text = shipped(places)
    for name, value in times.items():
        text, many = re.subn(rf"timeout {name} \w+", f"timeout {name} {value}", text)
        assert many == 1
    if not retries:
        text, many = re.subn(r"^ *retry-on .*$", "", text, flags=re.MULTILINE)
        assert many == 1
    config = folder / "haproxy.cfg"
    config.write_text(text, "utf-8")
    process = subprocess.Popen(["haproxy", "-db", "-f", str(config)], stdout=subprocess.DEVNULL)
    try:
        while not control.exists():
            assert process.poll() is None
            time.sleep(0.01)
        yield Balancer(port, control)
    finally:
        process.terminate()
        process.wait(GIVE_UP)


class Load:
    """*callers* threads, each asking anew on its connection as soon as it has its answer."""

    def __init__(
        self, port: int, headers: Mapping[str, str], body: bytes, expected: bytes, callers: int = 8
    ) -> None:
        self._port = port
        self._headers = dict(headers)
        self._body = body
        self._expected = expected
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(callers)]
        self.answers: Counter[str] = Counter()

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(SECONDS)

    def more(self, many: int = 100) -> None:
        """Until *many* more have been answered, however.

        Raises:
            AssertionError: they were not.
        """
        goal = self.answers.total() + many
        deadline = time.monotonic() + SECONDS
        while self.answers.total() < goal:
            assert time.monotonic() < deadline, self.answers
            time.sleep(0.01)

    def _ask(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=SECONDS)
        while not self._over.is_set():
            try:
                connection.request("POST", "/invocations", self._body, self._headers)
                response = connection.getresponse()
                body = response.read()
                right = response.status == 200 and body == self._expected
                self.answers["right" if right else f"{response.status} {body[:300]!r}"] += 1
            except (OSError, http.client.HTTPException) as error:
                self.answers[repr(error)] += 1
                connection.close()
        connection.close()
