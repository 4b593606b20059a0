"""A registry in trouble: it is named with the cause, the next one is asked, and nothing stays behind."""

import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from mlopsd_probes.model.options import ModelOptions
from mlopsd_probes.registry.options import RegistryOptions
from mlopsd_probes.registry.pool import POOL
from mlopsd_probes.registry.registries import Registries, RegistryError
from tests.model import meddler as meddling
from tests.model.asking import asking, client_is_there, clients
from tests.model.meddler import Act, Meddler
from tests.model.registry_server import Shop
from tests.running import GIVE_UP, free_port

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(600)]  # a registry is filled

GET = "registered-models/get"
JSON = "application/json"
LIMIT = 8.4  # seconds: two tries of an HTTP request, of 3 s each, end well within it


@pytest.fixture(scope="module")
def meddler(newest: Shop) -> Iterator[Meddler]:
    with Meddler(newest.uri) as one:
        yield one


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def registries(
    meddler: Meddler, newest: Shop, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Registries]:
    """One that is meddled with, and after it one that is well; both are up."""
    scratch = tmp_path_factory.mktemp("registries") / "scratch"
    options = {"candidates": ["@champion", "Production"], "registry_timeout": LIMIT}
    async with asking(scratch, meddler.uri, newest.uri, **options) as (made, _):
        meddler.meddle("/", meddling.status(500))
        await made.resolve()
        assert len(clients()) == 2
        yield made
        meddler.behave()


@pytest.mark.parametrize(
    ("kind", "said", "act"),
    [
        ("server_error", "500", meddling.status(500)),
        ("server_error", "503", meddling.status(503)),
        ("server_error", "429", meddling.status(429)),
        ("auth", "401", meddling.status(401)),
        (
            "forbidden",
            "403",
            meddling.status(403, JSON, b'{"error_code": "PERMISSION_DENIED", "message": "no"}'),
        ),
        ("auth", "401", meddling.status(401, JSON, b'{"detail": "Not authenticated"}')),
        ("bad_response", "text/html", meddling.status(200)),
        ("bad_response", "text/html", meddling.status(404)),
        ("bad_response", "application/json", meddling.status(200, JSON, b'{"registered_model": ')),
        ("bad_response", "application/json", meddling.status(200, JSON, b"[1, 2]")),
        (
            "bad_response",
            "application/json",
            meddling.status(200, JSON, b'{"registered_model": {"name": 7}}'),
        ),
        ("bad_response", "application/json", meddling.status(418, JSON, b'{"teapot": true}')),
        ("bad_response", "instead of 'iris'", meddling.status(200, JSON, b"{}")),
        ("absent", "nonesuch", meddling.instead("name=iris", "name=nonesuch")),
        ("timeout", "no answer in time", meddling.silence),
        ("timeout", "no answer in time", meddling.stall),
        ("bad_response", "broke off", meddling.break_off),
    ],
)
async def test_the_trouble_is_named_and_the_next_registry_asked(
    registries: Registries, meddler: Meddler, newest: Shop, kind: str, said: str, act: Act
) -> None:
    meddler.meddle(GET, act)
    resolution = await registries.resolve()
    assert resolution.found is not None
    assert (resolution.found.number, resolution.found.registry_rank) == ("1", 1)
    assert resolution.found.registry == newest.uri
    assert resolution.found.is_fallback
    (complaint,) = resolution.complaints
    assert (complaint.registry, complaint.kind) == (meddler.uri, kind)
    assert said in complaint.reason


async def test_who_drips_is_not_waited_for_and_its_process_killed(
    registries: Registries, meddler: Meddler
) -> None:
    """No setting of the client's bounds an answer that comes a byte at a time."""
    meddler.behave()
    await registries.resolve()
    (asked,) = clients()
    meddler.meddle(GET, meddling.drip)
    resolution = await registries.resolve()
    assert resolution.found is not None
    (complaint,) = resolution.complaints
    assert (complaint.registry, complaint.kind) == (meddler.uri, "timeout")
    assert f"no answer within {LIMIT:g} s" in complaint.reason
    assert asked not in clients()


async def test_a_503_is_not_asked_again_inside_a_check_and_a_broken_connection_is(
    registries: Registries, meddler: Meddler
) -> None:
    meddler.meddle(GET, meddling.once(meddling.status(503)))
    resolution = await registries.resolve()
    assert resolution.found is not None
    assert resolution.found.registry_rank == 1
    assert [GET in asked.path for asked in meddler.asked].count(True) == 1
    meddler.meddle(GET, meddling.once(lambda handler: None))
    resolution = await registries.resolve()
    assert resolution.found is not None
    assert (resolution.found.registry_rank, resolution.complaints) == (0, ())
    assert [GET in asked.path for asked in meddler.asked].count(True) == 2


async def test_when_the_first_answers_again_it_alone_has_a_process(
    registries: Registries, meddler: Meddler
) -> None:
    meddler.meddle(GET, meddling.status(500))
    await registries.resolve()
    assert len(clients()) == 2
    meddler.behave()
    resolution = await registries.resolve()
    assert resolution.found is not None
    assert resolution.found.registry == meddler.uri
    assert not resolution.found.is_fallback
    assert len(clients()) == 1


async def test_a_candidate_that_cannot_be_looked_up_is_the_registrys_trouble(
    registries: Registries, meddler: Meddler
) -> None:
    """The version behind the alias takes a second call; only MLflow's own 404 means that it is not there."""
    meddler.meddle("model-versions/get", meddling.status(500))
    resolution = await registries.resolve()
    assert resolution.found is not None
    assert resolution.found.registry_rank == 1
    assert [complaint.kind for complaint in resolution.complaints] == ["server_error"]


async def test_a_process_that_was_killed_is_started_again(registries: Registries, meddler: Meddler) -> None:
    meddler.behave()
    await registries.resolve()
    (before,) = clients()
    os.kill(before, signal.SIGKILL)
    while psutil.pid_exists(before):  # until it is reaped: its command line is gone before its end shows
        await asyncio.sleep(0.05)
    resolution = await registries.resolve()
    assert resolution.found is not None
    assert resolution.complaints == ()
    assert clients() != [before]


async def test_a_process_that_is_killed_while_it_is_asked_is_told_as_that(
    registries: Registries, meddler: Meddler
) -> None:
    meddler.behave()
    await registries.resolve()
    meddler.meddle(GET, meddling.silence)
    asking = asyncio.ensure_future(registries.resolve())
    while not meddler.asked:
        await asyncio.sleep(0.01)
    os.kill(clients()[0], signal.SIGKILL)
    (complaint,) = (await asking).complaints
    assert complaint.kind == "killed"
    assert "killed by SIGKILL" in complaint.reason


async def test_whoever_gives_up_waiting_costs_no_process(registries: Registries, meddler: Meddler) -> None:
    meddler.behave()
    await registries.resolve()
    before = clients()
    meddler.meddle(GET, meddling.silence)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await registries.resolve()
    meddler.behave()
    assert (await registries.resolve()).complaints == ()
    assert clients() == before


async def test_the_end_waits_for_no_registry(meddler: Meddler, tmp_path: Path) -> None:
    meddler.meddle(GET, meddling.silence)
    async with asking(tmp_path / "scratch", meddler.uri, registry_timeout=3600) as (registries, _):
        question = asyncio.ensure_future(registries.resolve())
        while not meddler.asked:
            await asyncio.sleep(0.01)
        async with asyncio.timeout(GIVE_UP):  # while the registry is still silent
            await registries.close()
            await asyncio.wait({question})
        meddler.behave()


async def test_metrics_that_cannot_be_had_are_told_as_such(registries: Registries, meddler: Meddler) -> None:
    meddler.behave()
    version = (await registries.resolve()).found
    assert version is not None
    assert (await registries.metrics(version))["accuracy"].value == 0.7
    assert await registries.metrics(replace(version, run_id=None, source="elsewhere")) == {}
    meddler.meddle("runs/get", meddling.status(500))
    with pytest.raises(RegistryError) as caught:
        await registries.metrics(version)
    assert caught.value.complaint.kind == "server_error"
    assert caught.value.complaint.registry == meddler.uri
    with pytest.raises(RegistryError, match="not among the configured"):
        await registries.metrics(replace(version, registry="http://gone"))


async def test_a_metric_of_no_date_counts_without_one(registries: Registries, meddler: Meddler) -> None:
    """Whoever logs it in microseconds names a year that no calendar has."""
    meddler.behave()
    version = (await registries.resolve()).found
    assert version is not None
    metric = {"key": "accuracy", "value": 0.9, "timestamp": 1_700_000_000_000_000, "step": 0}
    run = {"info": {"run_id": version.run_id}, "data": {"metrics": [metric]}}
    meddler.meddle("runs/get", meddling.status(200, JSON, json.dumps({"run": run}).encode()))
    found = (await registries.metrics(version))["accuracy"]
    assert (found.value, found.logged_at) == (0.9, None)


async def test_who_takes_over_keeps_its_files_when_the_one_before_goes(tmp_path: Path) -> None:
    scratch, uri = tmp_path / "scratch", f"http://127.0.0.1:{free_port()}"
    async with asking(scratch, uri, registry_timeout=20) as (after, _):
        options = ModelOptions(model="iris", registries=(RegistryOptions(uri=uri),), registry_timeout=20)
        before = Registries(
            options.wanted,
            logging.getLogger("mlopsd.test"),
            lambda *_: None,
            scratch,
            "model",
            pool=POOL,
        )
        await asyncio.gather(before.resolve(), after.resolve())
        await before.close()
        assert len(list(scratch.iterdir())) == 1


async def test_who_is_not_there_is_unreachable(newest: Shop, tmp_path: Path) -> None:
    """A port without a listener, and a missing database, which a request must not create."""
    refused, missing = f"http://127.0.0.1:{free_port()}", f"sqlite:///{tmp_path}/nonesuch.db"
    three = (refused, missing, newest.uri)
    async with asking(tmp_path / "scratch", *three, registry_timeout=20) as (registries, counted):
        resolution = await registries.resolve()
        assert resolution.found is not None
        assert resolution.found.registry_rank == 2
        said = {complaint.registry: complaint for complaint in resolution.complaints}
        assert {complaint.kind for complaint in said.values()} == {"unreachable"}, said
        assert "connection refused" in said[refused].reason
        assert "nonesuch.db; check the uri" in said[missing].reason
        assert counted == [("resolve", "unreachable")] * 2 + [("resolve", "ok")]
    assert not (tmp_path / "nonesuch.db").exists()


LEFT_ALONE = """
import asyncio, logging, sys
from pathlib import Path
from mlopsd_probes.model.options import ModelOptions
from mlopsd_probes.registry.pool import POOL
from mlopsd_probes.registry.registries import Registries

async def main():
    options = ModelOptions(model="iris", registries=({"uri": sys.argv[1]},), registry_timeout=60)
    folder = Path(sys.argv[2])
    await Registries(options.wanted, logging.getLogger(), print, folder, "model", pool=POOL).resolve()

asyncio.run(main())
"""


async def test_who_is_asked_dies_with_the_daemon(meddler: Meddler, tmp_path: Path) -> None:
    """Though it waits for an answer, and sees nothing of its channel."""
    meddler.meddle(GET, meddling.silence)
    command = (sys.executable, "-c", LEFT_ALONE, meddler.uri, str(tmp_path / "scratch"))
    daemon = await asyncio.create_subprocess_exec(*command)
    while not meddler.asked:
        assert daemon.returncode is None
        await asyncio.sleep(0.01)
    (client,) = clients(daemon.pid)
    daemon.kill()
    await daemon.wait()
    while client_is_there(client):
        await asyncio.sleep(0.01)
    meddler.behave()
