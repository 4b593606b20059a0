"""MLflow's servers as platform teams run them: with options, users, another database or another store."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.model.registry_server import environment
from tests.nginx import running
from tests.running import free_port

UP_SECONDS = 240.0
API = "/api/2.0/mlflow"
ADMIN, PASSWORD = "admin", "a-long-password"
AUTH = """
[mlflow]
default_permission = NO_PERMISSIONS
database_uri = sqlite:///{folder}/auth.db
admin_username = {admin}
admin_password = {password}
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
"""
DATABASES = Path("/usr/lib/postgresql")  # where Debian has the programs of each version


@dataclass(frozen=True)
class MlflowServer:
    """A server that answers; *headers* go with each request of `ask`."""

    uri: str
    headers: Mapping[str, str] = field(default_factory=dict)

    def ask(self, method: str, path: str, **document: Any) -> Any:
        """Return the answer to *document*."""
        headers = {"Content-Type": "application/json", **self.headers}
        body = json.dumps(document).encode()
        request = urllib.request.Request(self.uri + path, body, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.loads(answer.read() or b"{}")
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{path}: {error.code}: {error.read().decode()}") from error

    def register(self, name: str = "iris", experiment: str = "0") -> str:
        """Register version 1 of the model *name*, which is champion; return where its files belong."""
        run = self.ask("POST", f"{API}/runs/create", experiment_id=experiment)["run"]["info"]
        metric = {"key": "accuracy", "value": 0.7, "timestamp": 1}
        self.ask("POST", f"{API}/runs/log-metric", run_id=run["run_id"], **metric)
        self.ask("POST", f"{API}/registered-models/create", name=name)
        source = f"{run['artifact_uri']}/m"
        self.ask("POST", f"{API}/model-versions/create", name=name, source=source, run_id=run["run_id"])
        self.ask("POST", f"{API}/registered-models/alias", name=name, alias="champion", version="1")
        return source

    def upload(self, source: str) -> None:
        """Send the server the files of the version with *source*."""
        where = source.removeprefix("mlflow-artifacts:/")
        self.ask("PUT", f"/api/2.0/mlflow-artifacts/artifacts/{where}/MLmodel")


@contextmanager
def server(
    folder: Path, python: Path, *options: str, backend: str | None = None, **settings: str
) -> Iterator[MlflowServer]:
    """Run the server of the MLflow of *python* with *options*, and *settings* in its environment."""
    port = free_port()
    command = [
        *(str(python), "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)),
        *("--workers", "1", "--backend-store-uri", backend or f"sqlite:///{folder}/mlflow.db"),
        *(option.format(port=port) for option in options),
    ]
    variables = {**environment(python), **settings}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=variables, stdout=log, stderr=log, start_new_session=True
        )
    try:
        _wait(f"http://127.0.0.1:{port}", process, folder / "log")
        yield MlflowServer(f"http://127.0.0.1:{port}")
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def server_with_users(folder: Path, python: Path, *options: str) -> Iterator[MlflowServer]:
    """Run a server with users, whom `ask` asks as the administrator."""
    (folder / "auth.ini").write_text(AUTH.format(folder=folder, admin=ADMIN, password=PASSWORD), "ascii")
    for package in ("flask_wtf", "wtforms"):  # MLflow's own package does not bring them
        spec = find_spec(package)
        assert spec is not None
        (folder / package).symlink_to(Path(spec.origin or "").parent)
    settings = {
        "MLFLOW_AUTH_CONFIG_PATH": str(folder / "auth.ini"),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "only for tests",
        "PYTHONPATH": str(folder),
    }
    stores = ("--artifacts-destination", str(folder / "artifacts"), "--app-name", "basic-auth")
    with server(folder, python, *stores, *options, **settings) as made:
        credentials = b64encode(f"{ADMIN}:{PASSWORD}".encode()).decode()
        yield MlflowServer(made.uri, {"Authorization": f"Basic {credentials}"})


@contextmanager
def postgresql() -> Iterator[int]:
    """Run PostgreSQL, whose user and database are both postgres, with `PASSWORD`; yield its port."""
    programs, port = max(DATABASES.glob("*/bin")), free_port()
    user = "postgres" if os.geteuid() == 0 else None  # it refuses to run as root
    with tempfile.TemporaryDirectory() as place:  # pytest's folders are for one user alone
        folder = Path(place)
        (folder / "password").write_text(PASSWORD, "ascii")
        if user is not None:
            _give(folder, user)
        how = ["--auth=scram-sha-256", f"--pwfile={folder / 'password'}", "--username=postgres"]
        command = [str(programs / "initdb"), "--no-sync", *how, str(folder / "data")]
        subprocess.run(command, user=user, cwd=folder, check=True, capture_output=True)
        settings = (f"port={port}", "listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off")
        start = [str(programs / "postgres"), "-D", str(folder / "data")]
        with running([*start, *(part for one in settings for part in ("-c", one))], port, user=user):
            yield port


def _give(folder: Path, user: str) -> None:
    for path in (folder, *folder.iterdir()):
        shutil.chown(path, user)


def _wait(uri: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + UP_SECONDS
    while True:
        try:
            urllib.request.urlopen(f"{uri}/health", timeout=5).close()
        except OSError:
            assert process.poll() is None, log.read_text("utf-8", "replace")
            assert time.monotonic() < deadline
            time.sleep(0.1)
        else:
            return
