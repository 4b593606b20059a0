"""``python -m chaos.soak``: 100 000 checks and a million requests; what the daemon holds must stay flat."""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from chaos.census import Census, census, leaks, least, median
from chaos.traffic import checks
from tests.installed import installed
from tests.running import CALM_SYSTEM, free_port

CHECKS, REQUESTS, CONNECTIONS = 100_000, 1_000_000, 64
SLICES = 40  # in which the requests are asked; between them is looked
EACH = {"process": 4, "thread": 6, "loop": 6}  # probes by where they are checked
INTERVAL = 0.1
WARM_UP = 0.1  # of all requests and checks, which does not count
MORE = Census(descriptors=0, threads=0, children=0, rss=5 * 2**20)
STRANGE = Path(__file__).parent.parent / "tests" / "strange"
POINTS = {"troubled": "troubled:Troubled", "async_troubled": "troubled:AsyncTroubled"}
UNITS = {"descriptors": 1, "threads": 1, "children": 1, "rss": 2**20}


@dataclass(frozen=True, slots=True)
class Soaked:
    """The result of a soak: the resources at each look after the warm-up, in order."""

    seconds: float
    checks: float
    reported: Counter[str]
    looks: Sequence[Census]

    def grown(self) -> Iterator[str]:
        """Everything that is not flat: the median of the last quarter against that of the first."""
        quarter = max(len(self.looks) // 4, 1)
        return leaks(median(self.looks[:quarter]), median(self.looks[-quarter:]), MORE)


def main() -> int:
    """Soak, print the figures, and fail where something grew or a request went wrong."""
    parser = ArgumentParser(prog="python -m chaos.soak", description="Does the daemon stay as it is?")
    parser.add_argument("--checks", type=int, default=CHECKS)
    parser.add_argument("--requests", type=int, default=REQUESTS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as room:
        soaked = soak(Path(room), arguments.checks, arguments.requests)
    print("\n".join(_lines(soaked)))
    wrong = [
        *soaked.grown(),
        *(f"{code}: {times}" for code, times in soaked.reported.items() if code != "200"),
    ]
    print("\n".join(wrong) or "flat, and every request answered with 200")
    return 1 if wrong else 0


def soak(room: Path, least_checks: int, requests: int) -> Soaked:
    """*least_checks* and *requests*, both at least, with looks in between."""
    with _daemon(room) as (pid, port):
        began, reported, looks = time.monotonic(), Counter[str](), []
        while (done := _checked(port)) < least_checks or sum(reported.values()) < requests:
            reported.update(_ask(port, requests // SLICES))
            if min(done / least_checks, sum(reported.values()) / requests) >= WARM_UP:
                looks.append(_look(pid))
        return Soaked(time.monotonic() - began, done, reported, looks)


def _lines(soaked: Soaked) -> Iterator[str]:
    asked = sum(soaked.reported.values())
    yield f"{soaked.checks:.0f} checks, {asked} requests, {soaked.seconds:.0f} s, {len(soaked.looks)} looks"
    for name, unit in UNITS.items():
        values = [getattr(look, name) / unit for look in soaked.looks]
        first, last = values[0], values[-1]
        spread = f"min {min(values):.1f}, median {statistics.median(values):.1f}, max {max(values):.1f}"
        yield f"{name:12} {spread}; first {first:.1f}, last {last:.1f}{' MiB' if unit > 1 else ''}"


def _look(pid: int) -> Census:
    found = []
    for _ in range(10):
        found.append(census(pid))
        time.sleep(0.05)
    return least(found)


def _checked(port: int) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        return checks(answer.read())


def _ask(port: int, requests: int) -> dict[str, int]:
    command = [sys.executable, "-m", "chaos.asking", str(port), str(requests), str(CONNECTIONS)]
    reported: dict[str, int] = json.loads(subprocess.check_output(command, start_new_session=True))
    return reported


@contextlib.contextmanager
def _daemon(room: Path) -> Iterator[tuple[int, int]]:
    """Start a daemon with many probes, each at its shortest interval; yield its pid and port."""
    port = free_port()
    (room / "config.toml").write_text(_table(room), "utf-8")
    command = [sys.executable, "-m", "mlopsd", "run", "--config", str(room / "config.toml")]
    environment = {**os.environ, **installed(room, POINTS, STRANGE)}
    with (room / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--port", str(port)], env=environment, stderr=log, start_new_session=True
        )
    try:
        _wait_until_well(port, process)
        yield process.pid, port
    finally:
        process.terminate()
        process.wait(20)


def _wait_until_well(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health/", timeout=10).close()
            return
        time.sleep(0.1)
    raise TimeoutError("the daemon does not become healthy")


def _table(room: Path) -> str:
    tables = [f'state_dir = "{room / "state"}"\nsocket = "{room / "s"}"\n', CALM_SYSTEM]
    names = {"process": "processed", "thread": "threaded", "loop": "looped"}
    for place, times in EACH.items():
        use = "async_troubled" if place == "loop" else "troubled"
        for number in range(times):
            head = f'[probes.{names[place]}_{number}]\nuse = "{use}"\nisolation = "{place}"'
            tables.append(f"{head}\ninterval = {INTERVAL}\ntimeout = 20\n")
    return "\n".join(tables)


if __name__ == "__main__":
    sys.exit(main())
