"""The consequences of a failure: a version is rejected only on proof, and otherwise soon tried again."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from mlopsd.probe import Advice, Finding, Reading, ReloadRefused, Status
from mlopsd.process.backoff import LONGEST
from mlopsd_probes.model.rollout.rejections import FIRST_LATER, LONGEST_SOON
from mlopsd_probes.model.serving.canary import CanaryKind
from mlopsd_probes.model.serving.host import LoadFailed
from mlopsd_probes.registry.registries import Complaint, FetchError
from tests.model.world import URI, WELL, World, failing

NO_TORCH = LoadFailed("import_error", "it needs the module 'torch', which /opt/bin/python does not have")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    yield world
    await world.reconciler.close()


def found(reading: Reading, name: str, subject: str | None = None) -> Finding:
    (one,) = [
        finding
        for finding in reading.findings
        if finding.name == name and (subject is None or finding.subject == subject)
    ]
    return one


def advice(reading: Reading) -> Advice:
    """The most drastic advice, as the host's verdict has it."""
    return max(finding.advice for finding in reading.findings if finding.status is not Status.HEALTHY)


async def test_a_store_that_is_down_is_asked_ever_more_rarely_and_once_a_minute_at_least(
    world: World,
) -> None:
    world.registry.fails = FetchError("other", "the store of files says: SlowDown")
    world.registry.arrives = 0
    world.names("1")
    await world.check()
    waits = []
    for _ in range(10):
        tried, waited = len(world.steps_of("1")), 0.0
        while len(world.steps_of("1")) == tried:
            world.steps.clear()
            tried = 0
            world.wait(0.5)
            waited += 0.5
            await world.settle()
            assert waited <= 1.2 * LONGEST_SOON + 1, "it is not tried again without a check"
        waits.append(waited)
    assert waits[0] <= 3
    assert waits[-1] > 40
    world.registry.fails = None
    world.wait(1.2 * LONGEST_SOON)
    await world.settle()
    assert world.serves == "1"


async def test_a_fetch_that_fails_after_bytes_came_is_not_repeated_every_minute(world: World) -> None:
    """Ten gigabytes that break off near the end cost the store as much as ten that arrive."""
    world.registry.fails = FetchError("bad_response", "the answer broke off in the middle")
    world.names("1")
    await world.check()
    waits = []
    for _ in range(6):
        world.steps.clear()
        waited = 0.0
        while not world.steps_of("1"):
            world.wait(1)
            waited += 1
            await world.settle()
            assert waited <= 1.2 * LONGEST + 1, "it is not tried again without a check"
        waits.append(waited)
    assert 0.8 * FIRST_LATER <= waits[0] <= 1.2 * FIRST_LATER + 1
    assert waits[-1] >= 0.8 * LONGEST
    world.registry.fails = None
    world.names("2")
    await world.check()
    assert world.serves == "2", "another version waits for no transfer of the one before"


async def test_after_it_went_well_a_store_that_is_down_is_asked_at_once_again(world: World) -> None:
    world.registry.fails = FetchError("other", "down")
    world.registry.arrives = 0
    world.names("1")
    for _ in range(8):
        await world.check()
        world.wait(80)
    world.registry.fails = None
    await world.check(2)
    assert world.serves == "1"
    world.registry.fails = FetchError("other", "down")
    world.names("2")
    await world.check()
    world.registry.fails = None
    world.wait(2)
    await world.check()
    assert world.serves == "2"


async def test_with_nothing_in_service_a_missing_module_of_the_client_is_the_advice_of_the_host(
    world: World,
) -> None:
    output = "/opt/bin/python has no module 'botocore'; install it: /opt/bin/python -m pip install 'boto3'"
    world.registry.fails = FetchError("import_error", output)
    world.names("1")
    reading = await world.check()
    assert found(reading, "serving").status is Status.UNHEALTHY
    assert output in found(reading, "registry").summary
    assert advice(reading) is Advice.FIX_CONFIG


async def test_a_registry_whose_client_lacks_a_module_is_the_hosts_configuration(world: World) -> None:
    world.registry.complaints = (Complaint(URI, "import_error", "/opt/bin/python has no module 'psycopg2'"),)
    assert advice(await world.check()) is Advice.FIX_CONFIG


async def test_a_module_that_a_model_lacks_holds_the_version_back_until_a_reload(world: World) -> None:
    world.names("1")
    await world.check()
    world.load_fails["2"] = NO_TORCH
    world.names("2")
    reading = await world.check()
    finding = found(reading, "load")
    assert (finding.status, finding.advice) == (Status.DEGRADED, Advice.FIX_CONFIG)
    (rejected,) = reading.facts["rejected"]
    assert (rejected["step"], rejected["at_fault"]) == ("load", "host")
    with pytest.raises(ReloadRefused, match="it needs the module 'torch'"):
        await world.reconciler.reload(dry_run=False, force=False)
    del world.load_fails["2"]
    assert (
        await world.reconciler.reload(dry_run=False, force=False)
        == "version 2 (@champion) serves instead of 1"
    )


async def test_a_module_that_a_model_lacks_is_searched_for_again_after_the_back_off(world: World) -> None:
    world.load_fails["1"] = NO_TORCH
    world.names("1")
    assert advice(await world.check()) is Advice.FIX_CONFIG
    del world.load_fails["1"]
    await world.check(3)
    assert world.serves is None
    world.wait(world.options.rejected_backoff + 1)
    await world.check()
    assert world.serves == "1"
    assert world.registry.fetched == ["1"]


@pytest.mark.parametrize(
    ("kind", "advised"),
    [
        ("killed", Advice.FREE_RESOURCES),
        ("interpreter", Advice.FIX_CONFIG),
        ("scarce", Advice.FREE_RESOURCES),
        ("io_error", Advice.CHECK_HARDWARE),
        ("gpu", Advice.WATCH),
        ("signal", Advice.WATCH),
    ],
)
async def test_what_this_host_did_to_a_load_rejects_no_version(
    world: World, kind: str, advised: Advice
) -> None:
    world.names("1")
    await world.check()
    world.load_fails["2"] = LoadFailed(kind, "its process was killed by SIGKILL")
    world.names("2")
    reading = await world.check()
    assert world.serves == "1"
    assert "rejected" not in reading.facts
    finding = found(reading, "load", "version 2")
    assert (finding.status, finding.advice) == (Status.DEGRADED, advised)
    assert reading.summary == f"version 1 keeps serving; {finding.summary}"
    assert finding.summary.startswith("version 2 is not taken up (its process was killed by SIGKILL); tried")
    with pytest.raises(ReloadRefused, match="version 2 is not taken up: its process"):
        await world.reconciler.reload(dry_run=False, force=False)
    del world.load_fails["2"]
    world.wait(31)
    await world.settle()
    assert world.serves == "2"
    assert world.registry.fetched == ["1", "2"]


async def test_what_changed_on_this_disk_after_it_was_fetched_is_fetched_again(world: World) -> None:
    world.load_fails["1"] = LoadFailed("corrupt", "the file MLmodel on disk is not what was fetched")
    world.names("1")
    reading = await world.check()
    assert "rejected" not in reading.facts
    assert found(reading, "load").summary.startswith("version 1 is not taken up (the file MLmodel on disk")
    world.wait(1)
    await world.settle()
    assert world.serves == "1"
    assert world.registry.fetched == ["1", "1"]


@pytest.mark.parametrize(
    ("kind", "advised", "is_rejected"),
    [
        ("", Advice.FIX_MODEL, True),
        ("import_error", Advice.FIX_CONFIG, True),
        ("input", Advice.FIX_CONFIG, False),
        ("scarce", Advice.FREE_RESOURCES, False),
        ("killed", Advice.FREE_RESOURCES, False),
        ("out_of_memory", Advice.FREE_RESOURCES, True),
        ("io_error", Advice.CHECK_HARDWARE, False),
        ("gpu", Advice.RESTART_APP, False),
        ("signal", Advice.RESTART_APP, False),
    ],
)
async def test_a_canary_rejects_a_version_only_where_the_version_was_asked(
    world: World, kind: CanaryKind, advised: Advice, *, is_rejected: bool
) -> None:
    world.canaries["1"] = replace(failing("why"), kind=kind)
    world.names("1")
    reading = await world.check()
    finding = found(reading, "canary", "version 1")
    assert (finding.status, finding.advice) == (Status.UNHEALTHY, advised)
    assert ("rejected" in reading.facts) == is_rejected
    assert advice(reading) is advised
    world.canaries["1"] = WELL
    world.wait(31)
    await world.check()
    assert world.serves == (None if is_rejected else "1")


async def test_a_load_that_takes_too_long_is_no_proof_against_the_version_and_waits_as_long(
    world: World,
) -> None:
    world.load_fails["1"] = LoadFailed("timeout", "it was loading the model for more than 300 s")
    world.names("1")
    reading = await world.check()
    assert advice(reading) is Advice.RESTART_APP
    assert [rejected["at_fault"] for rejected in reading.facts["rejected"]] == ["host"]


@pytest.mark.parametrize(
    ("kind", "advised"),
    [
        ("gpu", Advice.RESTART_APP),
        ("scarce", Advice.FREE_RESOURCES),
        ("out_of_memory", Advice.FREE_RESOURCES),
        ("io_error", Advice.CHECK_HARDWARE),
    ],
)
async def test_what_serves_and_meets_a_trouble_of_the_host_is_unhealthy_with_its_advice(
    world: World, kind: CanaryKind, advised: Advice
) -> None:
    world.names("1")
    await world.check()
    world.hosts[0].next_canary = replace(failing("why"), kind=kind, source="example")
    finding = found(await world.check(), "canary")
    assert (finding.status, finding.advice) == (Status.UNHEALTHY, advised)


async def test_a_canary_input_that_cannot_be_read_says_nothing_of_what_serves(world: World) -> None:
    world.names("1")
    await world.check()
    output = "its input /etc/canary.json cannot be read: Permission denied"
    world.hosts[0].next_canary = replace(failing(output), kind="input")
    finding = found(await world.check(), "canary")
    assert (finding.status, finding.advice) == (Status.UNKNOWN, Advice.FIX_CONFIG)
    assert finding.summary == f"version 1 serves and cannot be proven: {output}"


@pytest.mark.parametrize(
    ("failure", "advised"),
    [
        (NO_TORCH, Advice.FIX_CONFIG),
        (LoadFailed("killed", "its process was killed by SIGKILL"), Advice.FREE_RESOURCES),
        (LoadFailed("died", "its process was killed by SIGSEGV"), Advice.RESTART_APP),
    ],
)
async def test_what_served_and_does_not_load_any_more_has_the_advice_of_its_failure(
    world: World, failure: LoadFailed, advised: Advice
) -> None:
    world.names("1")
    await world.check()
    await world.reconciler.close()
    world.load_fails["1"] = failure
    world.begin()
    reading = await world.check()
    serving = found(reading, "serving")
    assert (serving.status, serving.advice) == (Status.UNHEALTHY, advised)
    assert failure.reason in serving.summary


async def test_a_store_in_trouble_is_named_by_its_own_uri_and_left_alone_as_long_as_it_asks(
    world: World,
) -> None:
    world.registry.fails = FetchError("server_error", "it is not available now", "s3://models/1", 50)
    world.registry.arrives = 0
    world.names("1")
    reading = await world.check()
    (found,) = (finding for finding in reading.findings if finding.name == "registry")
    assert found.subject == "s3://models/1"
    world.registry.fails = None
    world.wait(49)
    await world.settle()
    assert world.serves is None
    world.wait(2)
    await world.until_serving("1")
