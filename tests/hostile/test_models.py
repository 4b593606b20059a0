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

from tests.keys import KEY, line_of
from tests.model.models.saved import rows, troubled
from tests.running import CALM_SYSTEM, Running

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
CREDENTIALS = (
    *("credentials/gcp.json", "credentials/aws", "credentials/client.pem", "credentials/databricks"),
    *("credentials/krb5", "systemd/token", ".aws/credentials", ".ssh/id_ed25519", ".netrc"),
    *(".config/gcloud/application_default_credentials.json", ".kube/config", ".mlflow/credentials"),
)
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
    (folder / "token").write_text(f"{SECRET}\n", "ascii")
    (folder / "keys").write_text(f"{line_of(SECRET, 'another')}\n", "ascii")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def host(folder: Path) -> Iterator[Running]:
    """A daemon that serves the model."""
    text = CONFIG.format(key=line_of(KEY), folder=folder) + CALM_SYSTEM
    home = {
        "HOME": str(folder),
        "MLOPSD_LOG__LEVEL": "INFO",
        "MLOPSD_SOCKET": str(folder / "run/s"),
        **credentials(folder),
    }
    running = Running(
        folder, text, environment=home, until="listening", through=BARE if os.geteuid() == 0 else ()
    )
    running.socket = folder / "run/s"
    with running as daemon:
        daemon.until("/health/model", lambda reading: reading["facts"].get("served"), 300)
        other = daemon.folder / "state/probes/twin"
        other.mkdir()
        (other / "notes").write_text(SECRET, "ascii")
        yield daemon
        daemon.stop()


def credentials(folder: Path) -> dict[str, str]:
    """Variables that name credentials of the daemon's own, and some that name what a model needs."""
    places = folder / "credentials"
    for name in CREDENTIALS:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(SECRET, "ascii")
    (places / "current").symlink_to("gcp.json")
    (places / "loop").symlink_to("loop")
    return {
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "GOOGLE_APPLICATION_CREDENTIALS": f"{places}/current",
        "AWS_SHARED_CREDENTIALS_FILE": f"{places}/aws",
        "MLFLOW_TRACKING_CLIENT_CERT_PATH": f"{places}/client.pem",
        "DATABRICKS_CONFIG_FILE": f"{places}/databricks",
        "KRB5CCNAME": f"FILE:{places}/krb5",
        "CREDENTIALS_DIRECTORY": f"{folder}/systemd",
        "AZURE_CONFIG_DIR": "/",
        "AWS_CONFIG_FILE": "/usr",
        "AWS_WEB_IDENTITY_TOKEN_FILE": f"{folder}/state/probes/model/models",
        "BOTO_CONFIG": f"{places}/loop",
        "CLOUDSDK_CONFIG": "/etc/passwd/no/folder",
        "AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://usr/lib",
        "AZURE_CLIENT_CERTIFICATE_PATH": "/dev/null",
    }


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
        "remove {folder}/run/s",
        "rename {folder}/run/s",
        "listen {folder}/run/s",
        "listen {folder}/run/t",
        "link {folder}/run/t",
        "write {folder}/run/t",
        "rename {folder}/run",
        *(f"read {{folder}}/{name}" for name in CREDENTIALS),
        "read {folder}/credentials/current",
    ],
)
def test_a_model_gets_at_nothing_of_the_daemons(host: Running, folder: Path, deed: str) -> None:
    reported = deed.format(folder=folder, pid=host.pid, port=host.port)
    assert outcome(host, reported) == 0


def test_what_the_variables_name_apart_from_credentials_stays_within_reach(host: Running) -> None:
    assert outcome(host, "read /dev/null") == 1
    assert outcome(host, "read /etc/passwd") == 1


def test_the_socket_is_the_daemons_after_all_that(host: Running) -> None:
    assert host.ask("GET", "/livez", local=True).status == 200
    assert not host.events("Unix socket replaced")


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
