"""Tables that ask the same registry with the same credentials share its client, and nothing else."""

import asyncio
import json
import logging
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from mlopsd_probes.model.options import ModelOptions
from mlopsd_probes.registry import client as registry_client
from mlopsd_probes.registry.pool import POOL
from mlopsd_probes.registry.registries import FetchError, Registries, Resolution
from tests.model import meddler as meddling
from tests.model.asking import client_is_there, clients
from tests.model.meddler import Act, Meddler
from tests.model.registry_server import Shop
from tests.running import GIVE_UP, Running

pytestmark = pytest.mark.timeout(600)  # a registry is filled

LIMIT = 60.0
PRINTING = """
import runpy, sys
print("a warning of a library")
sys.argv = ["child", *sys.argv[1:]]
runpy.run_module("mlopsd_probes.registry.child", run_name="__main__")
"""


@pytest.fixture
def meddler(newest: Shop) -> Iterator[Meddler]:
    with Meddler(newest.uri) as one:
        yield one


@pytest.fixture(autouse=True)
async def _nothing_left(tmp_path: Path) -> AsyncIterator[None]:
    yield
    await until(lambda: not clients())
    assert await asyncio.to_thread(lambda: list(tmp_path.glob("*/clients/*"))) == []


@asynccontextmanager
async def table(
    folder: Path, name: str, uri: str, model: str = "iris", **keys: Any
) -> AsyncIterator[Registries]:
    """The registries of a table *name*, as the model probe has them."""
    options = {
        "registry_timeout": LIMIT,
        **{key: keys.pop(key) for key in ("registry_timeout",) if key in keys},
    }
    made = ModelOptions.model_validate(
        {"model": model, "candidates": ["@champion"], "registries": [{"uri": uri, **keys}], **options}
    )
    log = logging.getLogger(f"mlopsd.probe.{name}")
    registries = Registries(made.wanted, log, lambda *_: None, folder / name / "clients", name, pool=POOL)
    try:
        yield registries
    finally:
        await registries.close()


async def until(is_true: Callable[[], object]) -> None:
    async with asyncio.timeout(GIVE_UP):
        while not is_true():
            await asyncio.sleep(0.02)


def where(part: str, act: Act) -> Callable[[str], Act | None]:
    return lambda path: act if part in path else None


def kinds(*resolutions: Resolution) -> list[str]:
    return [complaint.kind for resolution in resolutions for complaint in resolution.complaints]


async def test_two_tables_have_one_client_and_the_last_one_ends_it(newest: Shop, tmp_path: Path) -> None:
    async with table(tmp_path, "second", newest.uri) as second:
        async with table(tmp_path, "first", newest.uri) as first:
            found = await asyncio.gather(first.resolve(), second.resolve())
            assert kinds(*found) == []
            (shared,) = clients()
        assert clients() == [shared], "the first one, in whose folder it began, is gone"
        async with table(tmp_path, "first", newest.uri, token_file="/nonesuch") as again:
            assert kinds(await again.resolve()) == ["auth"]
            (version,) = [(await second.resolve()).found]
            assert version is not None
            assert (await second.metrics(version))["accuracy"].value == 0.7
            assert shared in clients()
            assert len(clients()) == 2
    await until(lambda: not client_is_there(shared))


@pytest.mark.parametrize(
    "other",
    [
        {"username": "me", "password_file": "{folder}/secret"},
        {"token_file": "{folder}/secret"},
        {"token_file": "{folder}/other"},
        {"redirect_hosts": ["files.example"]},
        {"workspace": "team"},
        {"registry_timeout": LIMIT / 2},
    ],
)
async def test_tables_with_other_keys_have_clients_of_their_own(
    meddler: Meddler, tmp_path: Path, other: dict[str, Any]
) -> None:
    for name in ("secret", "other"):
        (tmp_path / name).write_text(name, "ascii")
    keys = {
        name: value.format(folder=tmp_path) if isinstance(value, str) else value
        for name, value in other.items()
    }
    first_keys = {"token_file": str(tmp_path / "secret")} if "other" in str(other) else {}
    async with (
        table(tmp_path, "first", meddler.uri, **first_keys) as first,
        table(tmp_path, "second", meddler.uri, **keys) as second,
    ):
        await first.resolve()
        assert len(clients()) == 1
        await second.resolve()
        assert len(clients()) == 2


@pytest.mark.parametrize("name", ["ca_file", "client_cert_file"])
async def test_tables_with_other_certificates_have_clients_of_their_own(tmp_path: Path, name: str) -> None:
    (tmp_path / "pem").touch()
    uri = "https://127.0.0.1:1"
    async with (
        table(tmp_path, "first", uri) as first,
        table(tmp_path, "second", uri, **{name: str(tmp_path / "pem")}) as second,
    ):
        await asyncio.gather(first.resolve(), second.resolve())
        assert len(clients()) == 2


async def test_a_request_that_waits_does_not_delay_that_of_another_table(
    meddler: Meddler, tmp_path: Path
) -> None:
    meddler.rule = where("name=silent", meddling.silence)
    async with (
        table(tmp_path, "first", meddler.uri, "silent") as first,
        table(tmp_path, "second", meddler.uri) as second,
    ):
        waiting = asyncio.ensure_future(first.resolve())
        await until(lambda: meddler.asked)
        assert kinds(await second.resolve()) == []
        assert not waiting.done()
        assert len(clients()) == 1
        meddler.behave()
        assert kinds(await waiting) == ["absent"]


async def test_a_fetch_does_not_delay_another_table(meddler: Meddler, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    async with (
        table(tmp_path, "first", meddler.uri) as first,
        table(tmp_path, "second", meddler.uri) as second,
    ):
        version = (await first.resolve()).found
        assert version is not None
        meddler.rule = where("/artifacts/", meddling.silence)
        meddler.asked.clear()
        fetching = asyncio.ensure_future(first.fetch(version, tmp_path / "files", lambda *_: None))
        await until(lambda: any("/artifacts/" in asked.path for asked in meddler.asked))
        assert kinds(await second.resolve()) == []
        assert not fetching.done()
        await first.close()
        with pytest.raises(FetchError):
            await fetching
        assert kinds(await second.resolve()) == []


async def test_the_end_of_a_client_is_reported_to_every_table(meddler: Meddler, tmp_path: Path) -> None:
    meddler.rule = where("/", meddling.silence)
    async with (
        table(tmp_path, "first", meddler.uri) as first,
        table(tmp_path, "second", meddler.uri) as second,
    ):
        asking = asyncio.gather(first.resolve(), second.resolve())
        await until(lambda: len(meddler.asked) == 2)
        (shared,) = clients()
        os.kill(shared, signal.SIGKILL)
        assert kinds(*await asking) == ["killed", "killed"]
        meddler.behave()
        assert kinds(*await asyncio.gather(first.resolve(), second.resolve())) == []
        assert len(clients()) == 1


async def test_a_client_that_is_stopped_for_one_table_says_so_to_the_other(
    meddler: Meddler, tmp_path: Path
) -> None:
    limit = 8.4  # seconds, after which no setting of MLflow ends an answer that drips
    async with (
        table(tmp_path, "first", meddler.uri, "dripping", registry_timeout=limit) as first,
        table(tmp_path, "second", meddler.uri, registry_timeout=limit) as second,
    ):
        meddler.rule = lambda path: meddling.drip if "name=dripping" in path else None
        await second.resolve()
        waiting = asyncio.ensure_future(first.resolve())
        await until(lambda: any("dripping" in asked.path for asked in meddler.asked))
        meddler.rule = where("/", meddling.stall)
        pending = asyncio.ensure_future(second.resolve())
        found = await asyncio.gather(waiting, pending)
        assert kinds(*found) == ["timeout", "timeout"]
        meddler.behave()
        assert kinds(await second.resolve()) == []


async def test_a_server_that_asks_for_a_wait_is_left_alone_by_every_table(
    meddler: Meddler, tmp_path: Path
) -> None:
    def busy(handler: meddling.Handler) -> None:
        handler.send_response(429)
        handler.send_header("Retry-After", "77")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    meddler.rule = where("/", busy)
    async with (
        table(tmp_path, "first", meddler.uri) as first,
        table(tmp_path, "second", meddler.uri) as second,
    ):
        (answered,) = (await first.resolve()).complaints
        (paused,) = (await second.resolve()).complaints
    assert answered.retry_after == 77
    assert "; it is asked again in " in paused.reason
    assert len(meddler.asked) == 1


async def test_the_log_of_a_client_names_all_its_tables(
    newest: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    command = (sys.executable, "-P", "-u", "-c", PRINTING, *registry_client.COMMAND[-2:])
    monkeypatch.setattr(registry_client, "COMMAND", command)
    caplog.set_level(logging.INFO, "mlopsd.registry")
    async with (
        table(tmp_path, "wine", newest.uri) as first,
        table(tmp_path, "beer", newest.uri) as second,
    ):
        await asyncio.gather(first.resolve(), second.resolve())
        await until(lambda: caplog.records)
    (record,) = caplog.records
    assert (record.message, vars(record)["line"]) == ("probe printed", "a warning of a library")
    assert vars(record)["probe"] == "beer, wine"


def configuration(folder: Path, uri: str, tokens: dict[str, str]) -> str:
    lines = ['[log]\nformat = "json"']
    for name, token in tokens.items():
        (folder / token).write_text(token, "ascii")
        registry = f'{{ uri = "{uri}", token_file = "{folder / token}" }}'
        lines.append(f'[probes.{name}]\nuse = "model"\nmodel = "iris"\ncandidates = ["@nobody"]')
        lines.append(f'interval = "1s"\nregistries = [{registry}]\ndefault = {str(name == "wine").lower()}')
    return "\n".join(lines)


def test_a_reload_of_one_table_does_not_disturb_another(meddler: Meddler, tmp_path: Path) -> None:
    text = configuration(tmp_path, meddler.uri, {"wine": "common", "beer": "common"})
    with Running(tmp_path, text) as daemon:
        (shared,) = eventually(lambda: asked_by(meddler, "common") and clients(daemon.pid))
        changed = configuration(tmp_path, meddler.uri, {"wine": "renewed", "beer": "common"})
        daemon.config.write_text(daemon.framed(changed), "utf-8")
        os.kill(daemon.pid, signal.SIGHUP)
        daemon.logged("configuration reloaded")
        meddler.asked.clear()
        eventually(lambda: asked_by(meddler, "common") and asked_by(meddler, "renewed"))
        assert shared in clients(daemon.pid)
        assert len(clients(daemon.pid)) == 2
        detailed = json.dumps(daemon.get("/health/detailed").json["probes"]["beer"])
        assert urlsplit(meddler.uri).netloc in detailed
        assert "client" not in detailed


def asked_by(meddler: Meddler, token: str) -> bool:
    return any(asked.authorization == f"Bearer {token}" for asked in list(meddler.asked))


def eventually(value: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + GIVE_UP
    while not (found := value()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found
