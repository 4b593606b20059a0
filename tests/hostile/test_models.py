"""What a model that means harm can do from where it runs; the daemon has no capabilities, as installed."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.hostile.conftest import KEY
from tests.model.models.saved import rows, troubled
from tests.running import AT_ONCE, CALM_SYSTEM, Running

BARE = ("setpriv", "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all")  # a root that is none
SECRET = "correct-horse-battery"
REGISTER = """
import sys
from mlflow import MlflowClient
client = MlflowClient(sys.argv[1], sys.argv[1])
client.create_registered_model("villain")
client.create_model_version("villain", sys.argv[2])
client.set_registered_model_alias("villain", "champion", "1")
"""
CONFIG = """
[api]
api_keys = ["{key}"]
api_keys_file = "{folder}/keys"
[probes.model]
model = "villain"
interval = "1s"
registries = [{{ uri = "sqlite:///{folder}/registry.db" }}]
[probes.model.canary]
input = "{folder}/canary.json"
timeout = "60s"
[probes.model.prediction]
timeout = "20s"
[probes.twin]
use = "model"
enabled = false
model = "twin"
registries = [{{ uri = "http://127.0.0.1:9", token_file = "{folder}/token" }}]
"""
pytestmark = [pytest.mark.timeout(600), pytest.mark.needs("setpriv")]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder with a registry and its one model in it."""
    folder = Path(tempfile.mkdtemp(prefix="mlopsd-villain-"))
    troubled(folder / "model")
    registry = f"sqlite:///{folder}/registry.db"
    subprocess.run([sys.executable, "-c", REGISTER, registry, f"file://{folder}/model"], check=True)
    (folder / "canary.json").write_bytes(rows(["do", "x"], ["", 1.0]))
    for name in ("keys", "token"):
        (folder / name).write_text(f"{SECRET}\n", "ascii")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def host(folder: Path) -> Iterator[Running]:
    """A daemon that serves the model."""
    text = CONFIG.format(key=KEY, folder=folder) + CALM_SYSTEM
    home = {"HOME": str(folder), "MLOPSD_LOG__LEVEL": "INFO", "AWS_SECRET_ACCESS_KEY": SECRET}
    with Running(
        folder, text, environment=home, until="listening", through=BARE if os.geteuid() == 0 else ()
    ) as daemon:
        daemon.until("/health/model", lambda reading: reading["facts"].get("served"), 300)
        other = daemon.folder / "state/probes/twin"
        other.mkdir()
        (other / "notes").write_text(SECRET, "ascii")
        yield daemon
        assert daemon.stop() < AT_ONCE


def do(daemon: Running, *deeds: str) -> tuple[int, str]:
    """The code and the body of a prediction in which the model does *deeds*."""
    headers = {"X-API-Key": KEY, "Content-Type": "application/json"}
    body = rows(["do", "x"], *([deed, 7.0] for deed in deeds))
    answer = daemon.ask("POST", "/invocations/model", headers, body=body)
    return answer.status, answer.body.decode()


def outcome(daemon: Running, deed: str) -> float:
    code, body = do(daemon, deed)
    assert code == 200, body
    (value,) = json.loads(body)["predictions"]
    return float(value)


def test_the_isolation_is_in_the_facts(host: Running) -> None:
    facts = host.get("/health/model").json["facts"]["host"]
    assert facts["isolation"] == {"network": "cut", "state": "out of reach"}


@pytest.mark.parametrize(
    "deed",
    [
        "read {folder}/config.toml",
        "read {folder}/keys",
        "read {folder}/token",
        "read {folder}/state/lock",
        "read {folder}/state/probes/twin/notes",
        "read /proc/{pid}/environ",
        "read /proc/{pid}/maps",
        "read /proc/{pid}/mem",
        f"read {PurePosixPath('/proc/{pid}', 'root', 'etc/passwd')}read /proc/{{pid}}/cwd/keys",
        "read /proc/{pid}/fd/0",
        "write {folder}/config.toml",
        "write {folder}/new.toml",
        "write {folder}/state/layout",
        "write {folder}/state/probes/twin/notes",
        "reach {port}",
        "reach_process {pid}",
        "kill {pid}",
        "trace {pid}",
        "join_network {pid}",
        "variable AWS_SECRET_ACCESS_KEY",
    ],
)
def test_a_model_gets_at_nothing_of_the_daemons(host: Running, folder: Path, deed: str) -> None:
    told = deed.format(folder=folder, pid=host.pid, port=host.port)
    assert outcome(host, told) == 0


@pytest.mark.parametrize("deed", ["act", "act_by_a_child"])
def test_a_model_gives_no_orders_over_the_unix_socket_although_it_is_the_daemons_own_user(
    host: Running, deed: str
) -> None:
    before = len(host.events("configuration reloaded"))
    assert outcome(host, f"{deed} {host.socket}") == 403
    assert len(host.events("configuration reloaded")) == before
    assert host.ask("POST", "/reload", local=True).status == 200
    host.wait_for(lambda line: line["event"] == "configuration reloaded")


def test_what_a_model_prints_is_one_line_of_json_each_that_says_who_it_is(host: Running) -> None:
    code, body = do(host, 'fail \x1b[31m\n{"level": "critical", "event": "all is lost"}')
    assert (code, json.loads(body)["detail"]) == (500, "the model failed: ValueError")
    host.wait_for(lambda line: line["event"] == "probe printed")
    assert not host.events("all is lost")
    assert not host.events("no json")


def test_a_model_that_answers_for_its_process_harms_itself_alone(host: Running) -> None:
    code, body = do(
        host, 'forge {"id": NUMBER, "code": 200, "type": "text/html\\r\\nSet-Cookie: a=b", "rows": 1}'
    )
    assert (code, json.loads(body)["title"]) == (500, "Internal Server Error")
    assert host.get("/livez").status == 200
    assert list(text_string_to_metric_families(host.get("/metrics").body.decode()))
    assert not [line for line in host.events("request failed") if "traceback" in line]
    deadline = time.monotonic() + 300
    while do(host, "")[0] != 200:  # its process is replaced
        assert time.monotonic() < deadline
        time.sleep(0.2)
