"""The answers of a registry's process, for every supported kind of registry."""

import asyncio
import json
import logging
import math
import sqlite3
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from mlopsd.log_limit import LogLimiter
from mlopsd_probes.registry.client import ClientProcess, Unanswered
from mlopsd_probes.registry.options import RegistryOptions
from tests.model import meddler as meddling
from tests.model.meddler import Meddler
from tests.model.registry_server import Shop

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(600)]  # a registry is filled

PATIENCE = 60.0
SHOPS = ["newest", pytest.param("oldest", marks=pytest.mark.needs("oldest")), "embedded"]


@pytest.fixture(scope="module", params=SHOPS)
def shop(request: pytest.FixtureRequest) -> Shop:
    found: Shop = request.getfixturevalue(request.param)
    return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ClientProcess]:
    """The process that asks *shop*."""
    folder = tmp_path_factory.mktemp("client") / "folder"
    options = RegistryOptions(uri=shop.uri)
    log = logging.getLogger("mlopsd.test")
    made = ClientProcess(options, folder, PATIENCE / 2, name="model", log=log, printed=LogLimiter())
    yield made
    assert "mlflow.db" not in names_in(folder)
    await made.end()
    assert not names_in(folder.parent)


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


async def resolve(client: ClientProcess, *candidates: str) -> dict[str, Any]:
    return await client.ask({"do": "resolve", "model": "iris", "candidates": candidates}, PATIENCE)


@pytest.mark.parametrize(
    ("candidates", "number"),
    [
        (["@champion"], "1"),
        (["Production"], "2"),
        (["pRODUCTION"], "2"),
        (["2"], "2"),
        (["@nobody", "Archived", "99", "Production", "@champion"], "2"),
        (["@CHAMPION", "@champion"], "1"),
    ],
)
async def test_a_candidate_leads_to_its_version(
    client: ClientProcess, shop: Shop, candidates: list[str], number: str
) -> None:
    answer = await resolve(client, *candidates)
    found = answer["found"]
    assert (found["number"], found["candidate"]) == (
        number,
        candidates[-1] if number == "1" else found["candidate"],
    )
    assert found["run_id"] == shop.runs[int(number) - 1]
    assert found["source"]
    assert found["created"] > 1_600_000_000_000
    assert answer["complaints"] == []


async def test_the_newest_is_latest_and_without_a_stage(client: ClientProcess, shop: Shop) -> None:
    last = str(len(shop.runs))
    unstaged = last if last == "4" else "1"  # version 2 has a stage everywhere
    assert (await resolve(client, "latest"))["found"]["number"] == last
    assert (await resolve(client, "None"))["found"]["number"] == unstaged


@pytest.mark.parametrize(("number", "tagged"), [("1", ""), ("2", "all")])
async def test_the_tag_that_is_asked_for_comes_with_the_version(
    client: ClientProcess, number: str, tagged: str
) -> None:
    question = {"do": "resolve", "model": "iris", "candidates": [number], "digest_tag": "audience"}
    assert (await client.ask(question, PATIENCE))["found"]["tagged_digest"] == tagged
    assert "tagged_digest" not in (await resolve(client, number))["found"]


async def test_no_candidate_is_absent(client: ClientProcess) -> None:
    answer = await resolve(client, "@nobody", "Archived", "99")
    assert answer["found"] is None
    ((kind, reason),) = answer["complaints"]
    assert kind == "absent"
    assert "@nobody, Archived, 99" in reason


async def test_an_unknown_model_is_absent(client: ClientProcess) -> None:
    with pytest.raises(Unanswered, match=r"nonesuch.*check the name") as caught:
        await client.ask({"do": "resolve", "model": "nonesuch", "candidates": ["@champion"]}, PATIENCE)
    assert caught.value.kind == "absent"


async def test_metrics_are_the_last_of_the_run_with_nan_and_infinity(
    client: ClientProcess, shop: Shop
) -> None:
    found = await metrics(client, shop.runs[0], "runs:/somewhere")
    assert found["accuracy"]["value"] == 0.7
    assert found["accuracy"]["source"] == f"run {shop.runs[0]}"
    assert math.isnan(found["loss"]["value"])
    assert found["ratio"]["value"] == math.inf
    assert await metrics(client, shop.runs[1], "runs:/somewhere") == {}


async def metrics(client: ClientProcess, run_id: str | None, source: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]]
    found = (await client.ask({"do": "metrics", "run_id": run_id, "source": source}, PATIENCE))["metrics"]
    return found


async def test_metrics_of_a_run_that_does_not_exist_any_more_are_none(client: ClientProcess) -> None:
    assert await metrics(client, "0" * 32, "runs:/gone") == {}


async def test_a_metric_that_was_logged_later_for_the_logged_model_counts(
    client: ClientProcess, shop: Shop
) -> None:
    version = (await resolve(client, "1"))["found"]
    of_version = await metrics(client, version["run_id"], version["source"])
    of_copy = await metrics(client, version["run_id"], "models:/iris/1")
    assert of_copy == of_version
    if shop.mlflow.startswith("2."):  # no logged models before 3
        assert "f1" not in of_version
        return
    assert of_version["f1"]["value"] == 0.1
    assert of_version["f1"]["source"].startswith("logged model m-")
    assert of_version["recall"]["value"] == 0.2  # the run has an older one


@pytest.mark.parametrize("number", ["1\x1b[31m", "1\n2", "../1", "", "9" * 100, "\u0661"])
async def test_a_version_that_is_no_number_is_the_registrys_fault(tmp_path: Path, number: str) -> None:
    version = {"name": "iris", "version": number, "status": "READY", "source": "mlflow-artifacts:/1"}
    aliases = [{"alias": "champion", "version": number}]
    model = {"registered_model": {"name": "iris", "latest_versions": [version], "aliases": aliases}}
    body = json.dumps({**model, "model_version": version}).encode()
    log = logging.getLogger("mlopsd.test")
    with Meddler() as registry:
        registry.rule = lambda path: meddling.status(200, "application/json", body)
        options = RegistryOptions(uri=registry.uri)
        asked = ClientProcess(
            options, tmp_path / "own", PATIENCE, name="model", log=log, printed=LogLimiter()
        )
        try:
            with pytest.raises(Unanswered, match=r"it names a version .*, and not a number; ") as caught:
                await asked.ask({"do": "resolve", "model": "iris", "candidates": ["@champion"]}, PATIENCE)
        finally:
            await asked.end()
    assert caught.value.kind == "bad_response"
    assert caught.value.reason.isprintable()


async def test_copies_in_a_circle_have_no_logged_model(client: ClientProcess) -> None:
    assert await metrics(client, None, "models:/iris/99") == {}


async def test_a_version_without_a_required_tag_is_not_approved(client: ClientProcess, shop: Shop) -> None:
    """The next candidate counts then; the tag counts from the next request."""

    async def ask(**tags: str) -> Any:
        question = {"do": "resolve", "model": "iris", "candidates": ["@champion", "2"], "tags": tags}
        return await client.ask(question, PATIENCE)

    answer = await ask(audience="all")
    assert answer["found"]["number"] == "2"
    ((kind, reason),) = answer["complaints"]
    assert kind == "not_approved"
    assert reason.startswith(
        "@champion leads to version 1, which has no tag audience, not 'all'; set the tag"
    )
    answer = await ask(audience="few")
    assert answer["found"] is None
    assert "version 2, which has 'all' as its tag audience, not 'few'" in answer["complaints"][1][1]


@pytest.fixture
def pending(shop: Shop) -> Iterator[str]:
    """The newest version, which is not ready: a client that died while it registered it."""
    last = len(shop.runs)
    change = "UPDATE model_versions SET status = ? WHERE version = ? AND name = 'iris'"

    def become(status: str) -> None:
        with closing(sqlite3.connect(shop.folder / "mlflow.db", timeout=10)) as database, database:
            assert database.execute(change, (status, last)).rowcount == 1

    become("PENDING_REGISTRATION")
    yield str(last)
    become("READY")


async def test_only_what_is_ready_counts(client: ClientProcess, pending: str) -> None:
    answer = await resolve(client, pending, "@champion")
    assert answer["found"]["number"] == "1"
    ((kind, reason),) = answer["complaints"]
    assert kind == "not_ready"
    assert f"version {pending}, which is PENDING_REGISTRATION" in reason
    assert (await resolve(client, "latest"))["found"]["number"] == str(int(pending) - 1)


async def test_a_question_that_nobody_waits_for_does_not_confuse_the_next(client: ClientProcess) -> None:
    await client.start()
    asking = asyncio.ensure_future(resolve(client, "@champion"))
    await asyncio.sleep(0)
    asking.cancel()
    assert (await resolve(client, "Production"))["found"]["number"] == "2"


async def test_an_alias_that_points_to_a_deleted_version_is_named(client: ClientProcess, shop: Shop) -> None:
    """It is not called unset, and the next candidate is found."""
    with warnings.catch_warnings():  # MLflow warns of itself
        warnings.simplefilter("ignore")
        from mlflow import MlflowClient

        owner = MlflowClient(shop.uri, shop.uri)
        owner.create_registered_model("dangling")
        for _ in range(2):
            owner.create_model_version("dangling", "s3://models/1")
        for alias in ("champion", "before"):
            owner.set_registered_model_alias("dangling", alias, "1")
        owner.delete_model_version("dangling", "2")
    change = "UPDATE registered_model_aliases SET version = 2 WHERE name = 'dangling' AND alias = 'champion'"
    with closing(sqlite3.connect(shop.folder / "mlflow.db", timeout=10)) as database, database:
        assert database.execute(change).rowcount == 1  # MLflow 2.22 leaves it so by itself
    question = {"do": "resolve", "model": "dangling"}
    answer = await client.ask({**question, "candidates": ["@champion", "@before"]}, PATIENCE)
    assert answer["found"]["number"] == "1"
    dangling = [
        "dangling",
        "@champion points to version 2, which does not exist; set the alias to another version, or delete it",
    ]
    assert answer["complaints"] == [dangling]
    answer = await client.ask({**question, "candidates": ["@champion"]}, PATIENCE)
    assert (answer["found"], answer["complaints"][0]) == (None, dangling)


@pytest.mark.parametrize("number", ["1", "2", "3", "4"])
async def test_the_files_of_a_version_come_whole(
    client: ClientProcess, shop: Shop, tmp_path: Path, number: str
) -> None:
    """Of a logged model, of a run's artifacts, with folders in it, of a script."""
    if int(number) > len(shop.runs):
        return
    question = {"do": "fetch", "model": "iris", "version": number, "folder": str(tmp_path)}
    answer = await client.ask(question, PATIENCE)
    on_disk = contents(tmp_path)
    assert {path: (size, digest) for path, size, digest in answer["files"]} == on_disk
    model = "model.pkl" if shop.mlflow.startswith("2.") else "model.skops"
    among = {"1": model, "2": model, "3": "data/data/weights", "4": "constant.py"}[number]
    assert {"MLmodel", among} <= set(on_disk)


def contents(folder: Path) -> dict[str, tuple[int, str]]:
    """Size and SHA-256 of each file."""
    return {
        str(path.relative_to(folder)): (path.stat().st_size, sha256(path.read_bytes()).hexdigest())
        for path in folder.rglob("*")
        if path.is_file()
    }
