"""Real registries with versions in them: servers of the installed MLflow and the oldest, and a database."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import OLDEST
from tests.running import free_port

HERE = Path(__file__).parent
FILL_SECONDS = 480.0  # of which `shop.py` waits half for the server


@dataclass(frozen=True)
class Shop:
    """A registry that `shop.py` has filled.

    Attributes:
        folder: where its database ``mlflow.db`` is.
        runs: the run of each version, of version 1 first.
    """

    uri: str
    folder: Path
    mlflow: str
    runs: tuple[str, ...]


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Shop, Shop]]:
    """A server of the installed MLflow, and a database without one."""
    database = f"sqlite:///{tmp_path_factory.mktemp('embedded')}/mlflow.db"
    with server(tmp_path_factory.mktemp("newest"), Path(sys.executable), database) as (served, embedded):
        yield served, embedded


@pytest.fixture(scope="session")
def newest(installed: tuple[Shop, Shop]) -> Shop:
    """A server of the installed MLflow."""
    return installed[0]


@pytest.fixture(scope="session")
def embedded(installed: tuple[Shop, Shop]) -> Shop:
    """A database without a server; it has versions 1 and 2."""
    return installed[1]


@pytest.fixture(scope="session")
def oldest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A server of the oldest supported MLflow; its users are marked needs("oldest")."""
    with server(tmp_path_factory.mktemp("oldest"), OLDEST / "bin" / "python") as (shop,):
        yield shop


@contextmanager
def server(folder: Path, python: Path, *databases: str) -> Iterator[list[Shop]]:
    """``mlflow server`` of the MLflow of *python*, with all it keeps in *folder*; filled, as *databases*."""
    with empty(folder, python) as uri:
        yield filled(folder, python, uri, *databases)


@contextmanager
def empty(folder: Path, python: Path, port: int | None = None) -> Iterator[str]:
    """The URI of an ``mlflow server`` with what is in *folder*, at first nothing; it is starting."""
    port = port or free_port()
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
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def filled(folder: Path, python: Path, *uris: str) -> list[Shop]:
    """Return what `shop.py` registered at *uris* with *python*; wait for a server in *folder*."""
    done = subprocess.run(
        [str(python), "-W", "ignore", str(HERE / "shop.py"), *uris],
        capture_output=True,
        text=True,
        env=environment(python),
        cwd=folder,
        timeout=FILL_SECONDS,
    )
    assert done.returncode == 0, f"{done.stderr}\n{(folder / 'server.log').read_text('utf-8', 'replace')}"
    told = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return [
        Shop(one["uri"], _folder(one["uri"]) or folder, one["mlflow"], tuple(one["runs"])) for one in told
    ]


def _folder(uri: str) -> Path | None:
    return Path(uri.removeprefix("sqlite:///")).parent if uri.startswith("sqlite:") else None


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
