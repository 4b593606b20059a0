"""Registries and stores that fail while a version is fetched: it is not rejected, and soon taken up.

The registries, their clients and the stores are real; the hosts of versions are fakes that load at once.
"""

import asyncio
import http.client
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from mlopsd.probe import Advice, Finding, Reading, Status
from mlopsd_probes.model.options import ModelOptions
from mlopsd_probes.registry.pool import POOL
from mlopsd_probes.registry.registries import Registries
from tests.model import meddler as meddling
from tests.model.asking import clients
from tests.model.meddler import Act, Meddler
from tests.model.registrar import Registrar
from tests.model.registry_server import Shop, empty, environment
from tests.model.world import World
from tests.running import free_port

pytestmark = pytest.mark.timeout(900)  # a registry is filled, and clients import MLflow anew

SCRIPT = "constant.py"  # among the files of version 4
PATIENCE = 180.0  # seconds of the clock, on a busy machine
XML = "application/xml"


@pytest.fixture(scope="module")
def meddler(newest: Shop) -> Iterator[Meddler]:
    with Meddler(newest.uri) as one:
        yield one


@asynccontextmanager
async def living(folder: Path, uri: str, **table: Any) -> AsyncIterator[World]:
    """A life whose registry is at *uri*."""
    world = World(folder / "state")
    keys = {"model": "iris", "candidates": ["4"], "registry_timeout": 60, **table}
    world.options = ModelOptions.model_validate({**keys, "registries": [{"uri": uri}]})
    log = logging.getLogger("mlopsd.test")
    registries = Registries(
        world.options.wanted, log, lambda *_: None, folder / "clients", "model", pool=POOL
    )
    world.registry = cast("Any", registries)
    world.begin()
    try:
        yield world
    finally:
        await world.reconciler.close()


async def checked(world: World, comes_true: Callable[[Reading], bool]) -> Reading:
    """The first reading of which *comes_true*; no version may be rejected until then."""
    deadline = time.monotonic() + PATIENCE
    while True:
        await world.reconciler.check()
        if comes_true(reading := await world.reading()):
            return reading
        assert "rejected" not in reading.facts, reading.facts
        assert time.monotonic() < deadline, reading.findings
        world.wait(1)
        await asyncio.sleep(0.1)


async def taken_up(world: World, number: str) -> None:
    reading = await checked(world, lambda _: world.serves == number)
    assert "rejected" not in reading.facts


def complaint(reading: Reading) -> Finding | None:
    """What is said of the files of a version."""
    found = (one for one in reading.findings if one.name == "registry" and "cannot be had" in one.summary)
    return next(found, None)


async def complained(world: World) -> Finding:
    found = complaint(await checked(world, lambda reading: complaint(reading) is not None))
    assert found is not None
    assert found.status is Status.DEGRADED
    return found


def rejected(reading: Reading) -> bool:
    return "rejected" in reading.facts


@pytest.mark.parametrize(
    ("output", "act"),
    [
        ("broke off in the middle", meddling.break_off),
        ("404 with text/html that is not MLflow's", meddling.status(404)),
    ],
)
async def test_an_answer_that_is_no_proof_is_the_registrys_and_the_version_is_taken_up_soon_after(
    meddler: Meddler, tmp_path: Path, output: str, act: Act
) -> None:
    async with living(tmp_path, meddler.uri) as world:
        meddler.meddle(SCRIPT, act)
        assert output in (await complained(world)).summary
        meddler.behave()
        await taken_up(world, "4")


async def test_a_client_that_is_killed_in_the_middle_of_a_fetch_is_the_hosts_trouble(
    meddler: Meddler, tmp_path: Path
) -> None:
    async with living(tmp_path, meddler.uri) as world:
        await checked(world, lambda _: bool(clients()))
        before = set(clients())
        meddler.meddle(SCRIPT, meddling.silence)
        looking = asyncio.create_task(complained(world))
        while not any(SCRIPT in asked.path for asked in meddler.asked):
            await asyncio.sleep(0.01)
        (fetching,) = set(clients()) - before
        meddler.behave()
        meddler.meddle(SCRIPT, meddling.status(503))
        os.kill(fetching, signal.SIGKILL)
        found = await looking
        meddler.behave()
        assert "its client was killed by SIGKILL; it is started again" in found.summary
        assert found.advice is Advice.FREE_RESOURCES
        await taken_up(world, "4")


async def test_a_listed_file_that_a_real_server_does_not_have_rejects_the_version(
    meddler: Meddler, tmp_path: Path
) -> None:
    async with living(tmp_path, meddler.uri) as world:
        meddler.meddle(SCRIPT, meddling.instead(SCRIPT, "nonesuch.py"))
        reading = await checked(world, rejected)
        (rejection,) = reading.facts["rejected"]
        assert (rejection["step"], rejection["at_fault"]) == ("fetch", "version")
        assert f"{SCRIPT} is listed and is not there (it answered 404" in rejection["reason"]
        meddler.behave()


async def test_a_size_that_differs_twice_rejects_the_version_and_once_does_not(
    meddler: Meddler, tmp_path: Path
) -> None:
    async with living(tmp_path / "once", meddler.uri) as world:
        meddler.meddle(SCRIPT, meddling.once(meddling.shorten))
        await taken_up(world, "4")
    async with living(tmp_path / "twice", meddler.uri) as world:
        meddler.meddle(SCRIPT, meddling.shorten)
        reading = await checked(world, rejected)
        assert "bytes twice, the registry lists" in reading.facts["rejected"][0]["reason"]
        meddler.behave()


async def test_a_server_that_is_killed_in_the_middle_of_a_fetch_and_comes_back_costs_no_version(
    tmp_path: Path,
) -> None:
    python, port = Path(sys.executable), free_port()
    with ExitStack() as servers:
        uri = servers.enter_context(empty(tmp_path, python, port))
        until_up(uri)
        model = Registrar(uri, "iris")
        (tmp_path / "model").mkdir()
        (tmp_path / "model" / "MLmodel").write_text("flavors: {}", "utf-8")
        (tmp_path / "model" / "weights").write_bytes(b"0")
        number = model.register(tmp_path / "model")
        (stored,) = (tmp_path / "artifacts").rglob("weights")
        os.truncate(stored, 8 << 30)  # a hole, which costs no disk here and takes long to come
        async with living(tmp_path, uri, candidates=[number]) as world:
            looking = asyncio.create_task(complained(world))
            while not any(step is not None and (step.bytes or 0) > 1 << 20 for step in world.steps):
                assert not looking.done(), looking
                await asyncio.sleep(0.01)
            servers.close()  # by SIGKILL
            found = await looking
            assert found.advice is Advice.FIX_REGISTRY
            os.truncate(stored, 1)
            servers.enter_context(empty(tmp_path, python, port))
            await taken_up(world, number)


def until_up(uri: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            connection = http.client.HTTPConnection(uri.removeprefix("http://"), timeout=5)
            connection.request("GET", "/health")
            connection.getresponse()
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        else:
            return
        finally:
            connection.close()


REGISTER = """
import sys
from mlflow import MlflowClient
uri, *sources = sys.argv[1:]
client = MlflowClient(uri, uri)
for number, source in enumerate(sources):
    client.create_registered_model(f"model {number}")
    client.create_model_version(f"model {number}", source)
client.create_model_version("model 1", "s3://models/nothing")
"""
SHARED, IN_BUCKET = "model 0", "model 1"


@dataclass(frozen=True)
class Database:
    """A registry without a server, with two models.

    Attributes:
        share: where the files of `SHARED` are, once that is mounted; those of `IN_BUCKET` are in S3.
    """

    uri: str
    share: Path


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Database:
    folder = tmp_path_factory.mktemp("database")
    found = Database(f"sqlite:///{folder}/mlflow.db", folder / "share" / "model")
    command = [sys.executable, "-c", REGISTER, found.uri, str(found.share), "s3://models/1"]
    subprocess.run(command, check=True, env=environment(Path(sys.executable)), timeout=PATIENCE)
    return found


def written(folder: Path) -> Path:
    """A folder with the files of a version."""
    folder.mkdir(parents=True)
    (folder / "MLmodel").write_text("flavors: {}", "utf-8")
    (folder / "weights").write_bytes(b"0" * 1000)
    return folder


async def test_a_share_that_is_not_mounted_is_named_and_the_version_taken_up_once_it_is(
    database: Database, tmp_path: Path
) -> None:
    folder, source = written(tmp_path / "away" / "model"), database.share
    async with living(tmp_path, database.uri, model=SHARED, candidates=["1"]) as world:
        found = await complained(world)
        assert f"there is no folder {source} on this host; mount it" in found.summary
        assert found.advice is Advice.FIX_CONFIG
        folder.parent.rename(source.parent)
        await taken_up(world, "1")


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real S3, as good as one is without Amazon, with the files of a version in ``s3://models/1``."""
    port = free_port()
    log = (tmp_path_factory.mktemp("s3") / "log").open("wb")
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with log, subprocess.Popen(command, stdout=log, stderr=log) as server:
        until_up(f"http://127.0.0.1:{port}")
        put(port, "/models", b"")
        put(port, "/models/1/MLmodel", b"flavors: {}")
        put(port, "/models/1/weights", b"0" * 1000)
        yield f"http://127.0.0.1:{port}"
        server.kill()


def put(port: int, path: str, content: bytes) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("PUT", path, content)
    assert connection.getresponse().status == 200
    connection.close()


@pytest.fixture
def front(bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Meddler]:
    """What stands before the bucket."""
    with Meddler(bucket) as one:
        monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", one.uri)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        yield one


def s3_error(status: int, code: str, output: str) -> Act:
    body = f"<Error><Code>{code}</Code><Message>{output}</Message></Error>"
    return meddling.status(status, XML, body.encode())


def hang_up(handler: meddling.Handler) -> None:
    """Says nothing and closes the connection."""


async def test_whatever_s3_says_rejects_no_version_and_is_soon_over(
    database: Database, front: Meddler, tmp_path: Path
) -> None:
    """One trouble after the other, each in another step of the same fetch; then all is well."""
    slow_down = s3_error(503, "SlowDown", "Please reduce your request rate.")
    expired = s3_error(400, "ExpiredToken", "The provided token has expired.")
    denied = s3_error(403, "AccessDenied", "Request has expired")
    no_bucket = s3_error(404, "NoSuchBucket", "The specified bucket does not exist")
    async with living(tmp_path, database.uri, model=IN_BUCKET, candidates=["1"]) as world:
        for part, act, output in (
            ("list-type", slow_down, "it asks to be asked less often (503 SlowDown: "),
            ("/models/1/weights", slow_down, "it asks to be asked less often (503 SlowDown: "),
            ("list-type", expired, "(400 ExpiredToken: "),
            ("list-type", denied, "(403 AccessDenied: "),
            ("/models/1/weights", denied, "(403 AccessDenied: "),
            ("/models/1/", no_bucket, "there is no such bucket (404 NoSuchBucket: "),
            ("list-type", hang_up, f"{front.uri}: "),
        ):
            front.meddle(part, act)
            reading = await checked(
                world,
                lambda reading, text=output: text in (complaint(reading) or NOTHING).summary,  # type: ignore[misc]
            )
            found = complaint(reading)
            assert found is not None
            assert found.subject == "s3://models/1", "the store is at fault, and not the registry"
            assert found.summary.startswith("s3://models/1: the files of version 1 cannot be had: ")
        front.behave()
        await taken_up(world, "1")


NOTHING = Finding("registry", Status.HEALTHY, "")


async def test_a_key_that_s3_lists_and_does_not_have_rejects_the_version(
    database: Database, front: Meddler, tmp_path: Path
) -> None:
    async with living(tmp_path, database.uri, model=IN_BUCKET, candidates=["1"]) as world:
        front.meddle("/models/1/weights", meddling.instead("weights", "nonesuch"))
        reading = await checked(world, rejected)
        assert "weights is listed and is not there" in reading.facts["rejected"][0]["reason"]
        front.behave()


async def test_a_version_without_files_is_rejected_only_while_the_store_lists_another(
    database: Database, front: Meddler, tmp_path: Path
) -> None:
    """By a real S3: version 2 has no key there, and version 1 does; then no version has one."""
    async with living(tmp_path / "one", database.uri, model=IN_BUCKET, candidates=["2"]) as world:
        reading = await checked(world, rejected)
        (rejection,) = reading.facts["rejected"]
        assert (rejection["step"], rejection["at_fault"]) == ("fetch", "version")
        assert "lists no files for it, while it lists those of s3://models/1;" in rejection["reason"]
    async with living(tmp_path / "none", database.uri, model=IN_BUCKET, candidates=["2"]) as world:
        front.meddle("list-type", meddling.status(200, XML, b"<ListBucketResult></ListBucketResult>"))
        assert "lists no files for it" in (await complained(world)).summary
        front.behave()


async def test_a_module_that_the_client_lacks_is_named_and_used_as_soon_as_it_is_installed(
    database: Database, front: Meddler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = tmp_path / "path" / "botocore"
    hidden.mkdir(parents=True)
    lacks = "raise ModuleNotFoundError(\"No module named 'botocore'\", name='botocore')"
    (hidden / "__init__.py").write_text(lacks, "utf-8")
    monkeypatch.setenv("PYTHONPATH", str(hidden.parent))
    async with living(tmp_path, database.uri, model=IN_BUCKET, candidates=["1"]) as world:
        found = await complained(world)
        assert found.advice is Advice.FIX_CONFIG
        fix = f"install it: {sys.executable} -m pip install 'boto3'"
        assert f"{sys.executable} has no module 'botocore'; {fix}" in found.summary
        hidden.rename(tmp_path / "installed")
        await taken_up(world, "1")


async def test_a_client_that_lacked_a_module_is_started_again_for_the_next_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "path"
    path.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(path))
    uri = "postgresql+psycopg2://nobody@127.0.0.1:1/mlflow"
    async with living(tmp_path, uri) as world:
        reading = await checked(world, lambda reading: "no module" in reported(reading))
        assert "'psycopg2'; install it: " in reported(reading)
        assert "psycopg2-binary" in reported(reading)
        assert clients() == [], "it would not see all that is installed meanwhile"
        (path / "psycopg2.py").write_text("raise RuntimeError('it is found')", "utf-8")
        await checked(world, lambda reading: "it is found" in reported(reading))


def reported(reading: Reading) -> str:
    return next((one.summary for one in reading.findings if one.name == "registry"), "")
