"""The download of a version: one large file, many small ones, and a line that breaks."""

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench.effort import Effort
from bench.figures import spread
from bench.server import Missing
from bench.table import ResultTable, Row, at_most, of_rows
from mlopsd.log_limit import LogLimiter
from mlopsd_probes.registry.client import ClientProcess
from mlopsd_probes.registry.options import RegistryOptions
from tests.registry.broken_line import BrokenLine
from tests.running import free_port

LARGE = 3_000_000_000  # bytes of a sparse file
BREAKS = 10
SMALL_FILES = 5000
UP_SECONDS = LIMIT = 600.0
MLMODEL = "flavors: {}\n"


def run(effort: Effort, room: Path) -> Iterator[ResultTable]:
    """Each version from MLflow's server on this host, as often as there are rounds, but thrice at most."""
    rounds = min(effort.rounds, 3)
    with mlflow_server(room) as uri, BrokenLine(uri) as line:
        large, small = (
            registered(uri, room / "artifacts", "large"),
            registered(uri, room / "artifacts", "small"),
        )
        for number in range(SMALL_FILES):
            (small / f"part-{number:04}").write_bytes(b"x" * 200)
        os.truncate(large / "weights", LARGE)
        rows = asyncio.run(_rows(uri, line, room / "parts", rounds))
    yield of_rows(f"A version from MLflow's server on this host, {rounds} downloads each", rows)


async def _rows(uri: str, line: BrokenLine, room: Path, rounds: int) -> list[Row]:
    at_once = [await _fetch(uri, "small", 4, room / f"s4-{each}") for each in range(rounds)]
    one_by_one = [await _fetch(uri, "small", 1, room / f"s1-{each}") for each in range(rounds)]
    whole = [await _fetch(uri, "large", 4, room / f"l-{each}") for each in range(rounds)]
    again = [await _fetch(uri, "large", 4, room / f"l-{each}") for each in range(rounds)]
    broken, carried = [], []
    for each in range(rounds):
        line.break_after(LARGE // BREAKS, breaks=BREAKS - 1)
        broken.append(await _fetch(line.uri, "large", 4, room / f"b-{each}"))
        carried.append(line.carried / 1e9)
    return [
        at_most(f"{SMALL_FILES} files of 200 B, 4 at a time", spread(at_once, "s")),
        at_most(f"{SMALL_FILES} files of 200 B, 1 at a time", spread(one_by_one, "s")),
        at_most("3 GB in one file, with its SHA-256", spread(whole, "s")),
        at_most("the same again, complete after a restart", spread(again, "s")),
        at_most(f"3 GB over a line that breaks {BREAKS - 1} times", spread(broken, "s")),
        at_most("GB that came over that line", spread(carried, "GB"), 1.01 * LARGE / 1e9),
    ]


async def _fetch(uri: str, model: str, parallel: int, part: Path) -> float:
    """Return the seconds of one download by a fresh process, without its start."""
    (part / "files").mkdir(parents=True, exist_ok=True)
    log, options = logging.getLogger("bench"), RegistryOptions(uri=uri)
    client = ClientProcess(options, part / "own", LIMIT, name="bench", log=log, printed=LogLimiter())
    question = {
        "do": "fetch",
        "model": model,
        "version": "1",
        "folder": str(part / "files"),
        "parallel": parallel,
    }
    await client.start()
    try:
        began = time.perf_counter()
        await client.ask(question, LIMIT)
        return time.perf_counter() - began
    finally:
        await client.end()


@contextmanager
def mlflow_server(room: Path) -> Iterator[str]:
    """Run a server of the installed MLflow that keeps everything in *room*; yield its URI.

    Raises:
        Missing: MLflow is not installed.
    """
    if find_spec("mlflow") is None:
        raise Missing("no mlflow; install it with: pip install 'mlopsd[model]'")
    (room / "artifacts").mkdir(parents=True)
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{room}/mlflow.db"]
    command += ["--artifacts-destination", str(room / "artifacts")]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    environment |= {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    with (room / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
    try:
        _wait(f"http://127.0.0.1:{port}")
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait(uri: str) -> None:
    until = time.monotonic() + UP_SECONDS
    while True:
        try:
            with urllib.request.urlopen(f"{uri}/health", timeout=5):
                return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)


def registered(uri: str, artifacts: Path, name: str) -> Path:
    """Return the folder on the server whose files are version 1 of the model *name*."""
    _ask(uri, "registered-models/create", {"name": name})
    run = _ask(uri, "runs/create", {"experiment_id": "0"})["run"]["info"]
    _ask(
        uri,
        "model-versions/create",
        {"name": name, "source": f"{run['artifact_uri']}/model", "run_id": run["run_id"]},
    )
    folder = artifacts / str(run["artifact_uri"]).partition(":/")[2].lstrip("/") / "model"
    folder.mkdir(parents=True)
    (folder / "MLmodel").write_text(MLMODEL, "utf-8")
    (folder / "weights").touch()
    return folder


def _ask(uri: str, path: str, question: dict[str, str]) -> Any:
    body = json.dumps(question).encode()
    request = urllib.request.Request(
        f"{uri}/api/2.0/mlflow/{path}", body, {"Content-Type": "application/json"}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read())
