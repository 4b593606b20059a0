"""Real registries with versions in them: servers of the installed MLflow and the oldest, and a database."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

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
    """A server of the installed MLflow, and a database without one; all workers of a run share them."""
    database = f"sqlite:///{tmp_path_factory.mktemp('embedded')}/mlflow.db"
    with shared(room_of(tmp_path_factory) / "newest", Path(sys.executable), database) as (served, embedded):
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
    with shared(room_of(tmp_path_factory) / "oldest", OLDEST / "bin" / "python") as (shop,):
        yield shop


def room_of(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that all workers of this run share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@contextmanager
def shared(room: Path, python: Path, *databases: str) -> Iterator[list[Shop]]:
    """A filled server of the MLflow of *python*; the first worker starts it, and the last one ends it.

    Each holds a shared lock while it uses the server. The kernel frees that of a worker that crashes.
    """
    room.mkdir(exist_ok=True)
    with (room / "users").open("w") as users:
        with locked(room):
            if not (room / "shops.json").exists():
                start_for_all(room, python, *databases)
            fcntl.flock(users, fcntl.LOCK_SH)
        try:
            yield [
                Shop(one["uri"], Path(one["folder"]), one["mlflow"], tuple(one["runs"]))
                for one in _told(room)["shops"]
            ]
        finally:
            with locked(room):
                if _is_last(users):
                    os.killpg(_told(room)["group"], signal.SIGKILL)
                    (room / "shops.json").unlink()


@contextmanager
def locked(room: Path) -> Iterator[None]:
    """Nobody else starts or ends the server of *room* meanwhile."""
    with (room / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def start_for_all(room: Path, python: Path, *databases: str) -> None:
    """Start and fill a server, and leave in *room* how to use it and how to end it."""
    folder = Path(tempfile.mkdtemp(dir=room))
    port = free_port()
    process = launched(folder, python, port)
    try:
        shops = filled(folder, python, f"http://127.0.0.1:{port}", *databases)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    told = {"group": process.pid, "shops": [{**asdict(one), "folder": str(one.folder)} for one in shops]}
    (room / "shops.json").write_text(json.dumps(told), "utf-8")
    threading.Thread(target=process.wait, daemon=True).start()  # another worker may end it


def _told(room: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((room / "shops.json").read_text("utf-8"))
    return told


def _is_last(users: IO[str]) -> bool:
    with suppress(BlockingIOError):
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    fcntl.flock(users, fcntl.LOCK_UN)
    return False


@contextmanager
def empty(folder: Path, python: Path, port: int | None = None) -> Iterator[str]:
    """The URI of an ``mlflow server`` with what is in *folder*, at first nothing; it is starting."""
    port = port or free_port()
    process = launched(folder, python, port)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def launched(folder: Path, python: Path, port: int) -> subprocess.Popen[bytes]:
    """``mlflow server`` of the MLflow of *python* in a session of its own, with all it keeps in *folder*."""
    where = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    stores = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    stores += ["--artifacts-destination", str(folder / "artifacts")]
    with (folder / "server.log").open("wb") as log:
        return subprocess.Popen(
            [str(python), "-m", "mlflow", "server", *where, *stores],
            cwd=folder,
            env=environment(python),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


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
    reported = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return [
        Shop(one["uri"], _folder(one["uri"]) or folder, one["mlflow"], tuple(one["runs"])) for one in reported
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
