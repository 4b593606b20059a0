"""Real registries with versions in them: servers of the installed MLflow and the oldest, and a database."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import OLDEST

HERE = Path(__file__).parent
FILL_SECONDS = 120.0


@dataclass(frozen=True)
class Shop:
    """A registry that `shop.py` has filled.

    Attributes:
        folder: where its database ``mlflow.db`` and its ``artifacts`` are.
        runs: the run of each version, of version 1 first.
    """

    uri: str
    folder: Path
    mlflow: str
    runs: tuple[str, ...]


@pytest.fixture(scope="session")
def newest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A server of the installed MLflow."""
    with server(tmp_path_factory.mktemp("newest"), Path(sys.executable)) as shop:
        yield shop


@pytest.fixture(scope="session")
def oldest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A server of the oldest supported MLflow; whoever uses it needs("oldest")."""
    with server(tmp_path_factory.mktemp("oldest"), OLDEST / "bin" / "python") as shop:
        yield shop


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A database without a server; it has versions 1 and 2."""
    folder = tmp_path_factory.mktemp("embedded")
    return filled(f"sqlite:///{folder}/mlflow.db", folder, Path(sys.executable))


@contextmanager
def server(folder: Path, python: Path) -> Iterator[Shop]:
    """``mlflow server`` of the MLflow of *python*, with all that it keeps in *folder*."""
    port = free_port()
    command = [
        *(
            str(python),
            "-m",
            "mlflow",
            "server",
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--workers",
            "1",
        ),
        *("--backend-store-uri", f"sqlite:///{folder}/mlflow.db"),
        *("--artifacts-destination", str(folder / "artifacts")),
    ]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment(python), stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield filled(f"http://127.0.0.1:{port}", folder, python)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def filled(uri: str, folder: Path, python: Path) -> Shop:
    """What `shop.py` registered at *uri*, with the MLflow of *python*."""
    done = subprocess.run(
        [str(python), str(HERE / "shop.py"), uri],
        capture_output=True,
        text=True,
        env=environment(python),
        cwd=folder,
        timeout=FILL_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    return Shop(uri, folder, told["mlflow"], tuple(told["runs"]))


def environment(python: Path) -> dict[str, str]:
    """Ours, with the programs of *python* first and nothing that tells MLflow where to go."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    return {
        **ours,
        "PATH": f"{python.parent}{os.pathsep}{ours['PATH']}",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "GIT_PYTHON_REFRESH": "quiet",
    }


def free_port() -> int:
    """A port of the loopback that nobody listens on now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
