"""Requests that schemathesis makes from the description of the API, well-formed and not, every check on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hostile.conftest import KEYED, Start
from tests.keys import KEY
from tests.running import Running

CONFIG = Path(__file__).with_name("schemathesis.toml")
SEED = os.environ.get("HOSTILE_SEED", "1")
EXAMPLES = os.environ.get("HOSTILE_EXAMPLES", "6")  # for each of the operations, besides the border cases


def attack(daemon: Running, *arguments: str) -> str:
    """What schemathesis has to say about *daemon*; fails with it if there is anything wrong."""
    command = [str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(CONFIG), "run"]
    options = ["--checks", "all", "--no-color", "--continue-on-failure", "--no-shrink"]
    drawn = ["--seed", SEED, "--max-examples", EXAMPLES, "--generation-database", "none"]
    url = f"http://127.0.0.1:{daemon.port}/openapi.json"
    done = subprocess.run(
        [*command, url, *options, *drawn, *arguments],
        cwd=daemon.folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def well_afterwards(daemon: Running) -> None:
    """No fault of ours in the log, and the daemon as it was."""
    requests = daemon.events("request")
    assert not [line for line in requests if line["status"] >= 500 and line["status"] != 503]
    assert not [line for line in daemon.log if "traceback" in line or line["event"] == "no json"]
    assert daemon.until("/health/", lambda found: found["status"] == "healthy")


@pytest.mark.timeout(330)
@pytest.mark.parametrize("key", [KEY, "no" + KEY])
def test_in_production_every_answer_is_as_described_with_the_key_and_with_a_wrong_one(
    key: str, start: Start
) -> None:
    with start(KEYED) as daemon:
        output = attack(daemon, "--header", f"X-API-Key: {key}")
        assert ("returned only 401/403" in output) is (key != KEY)
        well_afterwards(daemon)


@pytest.mark.timeout(330)
def test_in_debug_mode_every_answer_is_as_described_with_the_key(start: Start) -> None:
    with start(f"debug = true\n{KEYED}[log]\nformat = 'json'\n") as daemon:
        assert "returned only 401/403" not in attack(daemon, "--header", f"X-API-Key: {KEY}")
        well_afterwards(daemon)
