"""The download of a version: one large file, many small ones, and a line that breaks; also from S3."""

import asyncio
import hashlib
import importlib
import json
import logging
import os
import shutil
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
from bench.static_s3 import StaticS3, serving
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
REGISTER = """
import sys
from mlflow import MlflowClient
client = MlflowClient(sys.argv[1], sys.argv[1])
client.create_registered_model("large")
client.create_model_version("large", "s3://models/1")
"""


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
    with _bucket(room / "s3") as (store, uri):
        rows = asyncio.run(_rows_of_s3(store, uri, room / "parts", rounds))
    yield of_rows(f"A version of 3 GB from a server that answers as S3 does, {rounds} downloads each", rows)


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


async def _rows_of_s3(store: StaticS3, uri: str, room: Path, rounds: int) -> list[Row]:
    """Take turns with boto3's own download, which hashes nothing."""
    of_boto3, ours, by_one, linked = [], [], [], []
    for each in range(rounds):
        parts = [room / f"{name}-{each}" for name in ("s3", "one", "linked")]
        of_boto3.append(_fetch_by_boto3(store.uri, room / f"boto3-{each}"))
        ours.append(await _fetch(uri, "large", 4, parts[0]))
        by_one.append(await _fetch(uri, "large", 1, parts[1]))
        before = store.sent
        linked.append(await _fetch(uri, "large", 4, parts[2], parts[0] / "files" / "weights"))
        again = store.sent - before
        for part in parts:
            shutil.rmtree(part)
    return [
        at_most("3 GB from S3 by boto3's download_file, without a SHA-256", spread(of_boto3, "s")),
        at_most("3 GB from S3, 4 ranges at a time, with its SHA-256", spread(ours, "s")),
        at_most("3 GB from S3, 1 range at a time, with its SHA-256", spread(by_one, "s")),
        at_most("a second version that shares the 3 GB", spread(linked, "s")),
        at_most("kB that came for it", spread([again / 1e3], "kB"), 100.0),
    ]


def _fetch_by_boto3(endpoint: str, target: Path) -> float:
    boto3 = importlib.import_module("boto3")  # an extra
    client = boto3.client("s3", endpoint_url=endpoint)
    began = time.perf_counter()
    client.download_file("models", "1/weights", str(target))
    seconds = time.perf_counter() - began
    target.unlink()
    return seconds


@contextmanager
def _bucket(folder: Path) -> Iterator[tuple[StaticS3, str]]:
    """Yield a store with a version of 3 GB, and the URI of a registry that names it."""
    if find_spec("boto3") is None:
        raise Missing("no boto3; install it with: pip install 'mlopsd[s3]'")
    version = folder / "models" / "1"
    version.mkdir(parents=True)
    (version / "MLmodel").write_text(MLMODEL, "utf-8")
    (version / "weights").touch()
    os.truncate(version / "weights", LARGE)
    etags = {f"models/1/{path.name}": f'"{_md5(path)}"' for path in version.iterdir()}
    keys = {
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with serving(folder, etags) as store:
        os.environ.update({**keys, "MLFLOW_S3_ENDPOINT_URL": store.uri})
        uri = f"sqlite:///{folder}/mlflow.db"
        subprocess.run([sys.executable, "-W", "ignore", "-c", REGISTER, uri], check=True)
        yield store, uri


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _md5(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


async def _fetch(uri: str, model: str, parallel: int, part: Path, cached: Path | None = None) -> float:
    """Return the seconds of one download by a fresh process, without its start.

    *cached* is a file of another version, of `LARGE` zeros.
    """
    (part / "files").mkdir(parents=True, exist_ok=True)
    log, options = logging.getLogger("bench"), RegistryOptions(uri=uri)
    client = ClientProcess(options, part / "own", LIMIT, name="bench", log=log, printed=LogLimiter())
    question = {
        "do": "fetch",
        "model": model,
        "version": "1",
        "folder": str(part / "files"),
        "parallel": parallel,
        "cached": [] if cached is None else [(str(cached), LARGE, _sha256(cached))],
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
