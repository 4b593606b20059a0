"""The life of versions: what is taken up, what is rejected, and what serves meanwhile."""

import asyncio
import errno
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

import pytest

from mlopsd.predictor import PredictionError
from mlopsd.probe import ReloadRefused, Status
from mlopsd_probes.model.cache import store
from mlopsd_probes.model.metrics import INFO
from mlopsd_probes.model.options import CanaryOptions, PredictionOptions, Range
from mlopsd_probes.model.serving.host import LoadFailed
from mlopsd_probes.model.serving.liveness import Backlog, Reason
from mlopsd_probes.registry.registries import Complaint, FetchError, RegistryError
from tests.model.world import DOWN, URI, WELL, World, failing, reported, version
from tests.running import GIVE_UP

JSON = "application/json"
ONE_FILE = sha256(
    f"{sha256(b'm').hexdigest()} 1 MLmodel\n".encode()
).hexdigest()  # of what a FakeRegistry has


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    yield world
    await world.reconciler.close()


async def test_the_first_version_is_fetched_loaded_proven_and_serves(world: World) -> None:
    world.names("1")
    reading = await world.check()
    assert reading.status is Status.HEALTHY
    assert world.serves == "1"
    assert world.steps_of("1") == ["judge", "fetch", "load", "canary", "swap"]
    assert (await world.reconciler.active.predict(b"for ", JSON)).body == b"for 1"
    digest = {"digest": ONE_FILE}
    assert reading.facts["served"] == {**reading.facts["desired"], **digest}
    (info,) = [sample for sample in reading.samples if sample.name == INFO.name]
    assert digest.items() <= dict(info.labels).items()


async def test_before_the_first_version_serves_the_reading_says_what_is_in_progress(world: World) -> None:
    world.names("1")
    world.registry.fetching.clear()
    await world.reconciler.check()
    async with asyncio.timeout(GIVE_UP):
        while not any(step is not None and step.bytes for step in world.steps):
            await asyncio.sleep(0.005)
    reading = await world.reading()
    assert reported(reading, "serving") == (
        "unknown",
        "no version serves yet: fetching version 1, 1 bytes of 2 bytes",
    )
    assert reading.facts["progress"]["step"] == "fetch"
    with pytest.raises(PredictionError, match="fetching version 1") as refusal:
        await world.reconciler.active.predict(b"", JSON)
    assert (refusal.value.code, refusal.value.retry_after) == (503, 5.0)


async def test_a_registry_that_has_not_answered_yet_is_no_verdict_and_does_not_hold_up_the_reading(
    world: World,
) -> None:
    world.timeout = 0.5
    world.begin()
    world.registry.answering.clear()
    await world.reconciler.check()
    assert reported(await world.reading(), "serving") == (
        "unknown",
        "no version serves yet: no registry has answered since the start",
    )
    world.registry.answering.set()
    world.names("1")
    assert (await world.check(2)).status is Status.HEALTHY


async def test_a_moved_alias_swaps_without_a_failed_request(world: World) -> None:
    world.names("1")
    await world.check()
    world.names("2")
    world.loading.clear()
    answers: list[bytes] = []

    async def ask_all_the_time() -> None:
        while True:
            answers.append((await world.reconciler.active.predict(b"", JSON)).body)

    asking = asyncio.create_task(ask_all_the_time())
    await world.reconciler.check()
    await world.until(lambda: len(answers) > 1)
    assert set(answers) == {b"1"}
    drift = reported(await world.reading(), "version_drift")
    assert drift[0] == "degraded"
    assert "the registry wants version 2, this host serves version 1, for 0 s; " in drift[1]
    world.loading.set()
    await world.settle()
    assert not asking.done(), "a request failed"
    await world.until(lambda: answers[-1] == b"2")
    asking.cancel()
    assert answers == sorted(answers)
    old = world.hosts[0]
    assert old.ended == [world.options.prediction.timeout]
    assert world.steps_of("1")[-1] == "drain"
    assert (await world.check()).status is Status.HEALTHY
    (offered,) = world.registry.cached
    (kept,) = world.folder.glob("models/iris/1-*/MLmodel")
    assert offered == str(kept), "what is on disk need not be fetched"


@pytest.mark.parametrize("step", ["canary", "load", "fetch", "thresholds"])
async def test_a_version_that_fails_is_rejected_named_and_left_alone(tmp_path: Path, step: str) -> None:
    world = World(tmp_path, thresholds={"accuracy": Range(min=0.9)})
    world.registry.scores = {"1": {"accuracy": 0.95}, "2": {"accuracy": 0.95}}
    world.names("1")
    await world.check()
    world.canaries["2"] = failing("2 of 3 predictions are not finite") if step == "canary" else WELL
    if step == "load":
        world.load_fails["2"] = LoadFailed("import_error", "no module named 'torch'")
    if step == "fetch":
        world.registry.fails = FetchError("missing", "model.pkl is missing in the registry")
    if step == "thresholds":
        world.registry.scores["2"] = {"accuracy": 0.5}
    world.names("2")
    reading = await world.check()
    reason = {
        "canary": "2 of 3 predictions are not finite",
        "load": "no module named 'torch'",
        "fetch": "model.pkl is missing in the registry",
        "thresholds": "metric accuracy is 0.5, below 0.9",
    }[step]
    assert world.serves == "1"
    assert reading.status is Status.DEGRADED
    (rejected,) = reading.facts["rejected"]
    assert (rejected["version"], rejected["reason"]) == ("2", reason)
    assert any(finding.subject == "version 2" and reason in finding.summary for finding in reading.findings)
    assert ("2" in world.registry.fetched) == (step in ("canary", "load"))
    attempts = len(world.steps_of("2"))
    await world.check(3)
    assert len(world.steps_of("2")) == attempts, "it was tried again at once"
    assert not world.hosts[0].is_killed
    if step == "canary":
        assert world.hosts[1].is_killed
    await world.reconciler.close()


async def test_a_rejected_version_is_tried_again_when_its_time_has_passed(world: World) -> None:
    world.names("1")
    await world.check()
    world.canaries["2"] = failing("NaN")
    world.names("2")
    await world.check()
    world.canaries["2"] = WELL
    world.passed = timedelta(seconds=world.options.rejected_backoff + 1)
    await world.check()
    assert world.serves == "2"
    assert "rejected" not in (await world.reading()).facts


async def test_a_reload_tries_a_rejected_version_at_once(world: World) -> None:
    world.names("1")
    await world.check()
    world.canaries["2"] = failing("NaN")
    world.names("2")
    await world.check()
    with pytest.raises(ReloadRefused, match="version 2 was rejected: NaN"):
        await world.reconciler.reload(dry_run=False, force=False)
    world.canaries["2"] = WELL
    output = await world.reconciler.reload(dry_run=False, force=False)
    assert output == "version 2 (@champion) serves instead of 1"


async def test_with_the_registry_gone_the_version_keeps_serving_and_the_reading_reports_it(
    world: World,
) -> None:
    world.names("1")
    await world.check()
    world.registry.complaints = (DOWN,)
    reading = await world.check()
    assert world.serves == "1"
    assert reading.status is Status.DEGRADED
    assert reported(reading, "registry") == (
        "degraded",
        "http://registry: connection refused; last answered 0 s ago",
    )
    assert reported(reading, "cache")[0] == "healthy"
    world.passed = timedelta(hours=2)
    assert reported(await world.reading(), "cache")[1] == (
        "last proven and confirmed by a registry 2 h ago, more than cache_ttl (60 min)"
    )


async def test_a_start_without_a_registry_serves_from_disk_and_is_degraded(world: World) -> None:
    world.names("1")
    await world.check()
    await world.reconciler.close()
    world.registry.complaints = (DOWN,)
    world.begin()
    reading = await world.check()
    assert world.serves == "1"
    assert world.registry.fetched == ["1"], "it was fetched again"
    assert reading.status is Status.DEGRADED
    assert reported(reading, "cache")[1] == "served from disk; no registry has answered since the start"


async def test_a_start_serves_what_it_had_while_the_new_version_is_on_its_way(world: World) -> None:
    world.names("1")
    await world.check()
    await world.reconciler.close()
    world.names("2")
    world.registry.fetching.clear()
    world.begin()
    await world.reconciler.check()
    await world.until_serving("1")
    async with asyncio.timeout(GIVE_UP):
        while "fetch" not in world.steps_of("2"):
            await world.reconciler.check()
            await asyncio.sleep(0.01)
    world.registry.fetching.set()
    await world.until_serving("2")


async def test_a_host_that_dies_is_replaced_at_once_from_disk(world: World) -> None:
    world.names("1")
    await world.check()
    world.loading.clear()
    before = world.wishes
    world.hosts[0].die()
    await world.until(lambda: world.serves is None)
    await world.until(lambda: world.wishes > before)  # else nobody was told
    reading = await world.reading()
    assert reported(reading, "serving")[0] == "unhealthy"
    assert (
        "no version serves: version 1 is lost (its process was killed by SIGSEGV)"
        in reported(reading, "serving")[1]
    )
    world.loading.set()
    await world.until_serving("1")
    reading = await world.check()
    assert reading.facts["host"]["restarts"] == 1
    assert world.registry.fetched == ["1"]


async def test_a_host_that_dies_again_and_again_is_replaced_ever_more_slowly(world: World) -> None:
    world.names("1")
    await world.check()
    world.hosts[0].die()
    await world.until(lambda: len(world.hosts) == 2)
    await world.until_serving("1")
    await world.settle()
    world.hosts[1].die()
    await world.until(lambda: world.serves is None)
    await world.check()
    assert len(world.hosts) == 2, "the wait was skipped"
    world.wait(2)
    await world.until_serving("1")


async def test_a_request_that_takes_too_long_is_reported_and_costs_nobody_the_process(tmp_path: Path) -> None:
    world = World(tmp_path, prediction=PredictionOptions(timeout=0.05))
    world.names("1")
    await world.check()
    world.hosts[0].hangs = True
    for _ in range(3):
        with pytest.raises(PredictionError) as refusal:
            await world.reconciler.active.predict(b"", JSON)
        assert refusal.value.code == 504
    world.hosts[0].hangs = False
    assert (await world.reconciler.active.predict(b"", JSON)).body == b"1"
    assert (len(world.hosts), world.hosts[0].is_killed) == (1, False)
    await world.reconciler.close()


@pytest.mark.parametrize("reason", ["hang", "stall"])
async def test_a_host_that_hangs_or_stalls_is_killed_unhealthy_and_replaced(
    world: World, reason: Reason
) -> None:
    world.names("1")
    await world.check()
    world.loading.clear()
    world.hosts[0].diagnosis = (reason, "it has sent no heartbeat for 60 s")
    await world.until_killed()
    await world.until(lambda: world.serves is None)
    status, output = reported(await world.reading(), "serving")
    assert status == "unhealthy"
    assert "no version serves: version 1 is lost (it has sent no heartbeat for 60 s)" in output
    assert (1, {"reason": reason}) in world.sink.reported
    world.loading.set()
    await world.until_serving("1")
    assert [host.is_killed for host in world.hosts] == [True, False]


async def test_a_canary_that_waits_its_turn_behind_callers_leaves_the_last_result_as_it_is(
    world: World,
) -> None:
    world.names("1")
    await world.check()
    world.hosts[0].canary_behind = 3
    assert reported(await world.reading(), "canary") == (
        "healthy",
        "version 1 predicted 3 rows in 0.01 s; the next canary waits its turn behind 3 requests",
    )
    world.hosts[0].next_canary = failing("NaN")
    world.hosts[0].canary_behind = 1
    assert reported(await world.check(), "canary") == (
        "unhealthy",
        "version 1 fails its canary: NaN; the next canary waits its turn behind 1 request",
    )


async def test_callers_who_get_nothing_degrade_the_version_while_its_last_canary_stands(
    world: World,
) -> None:
    world.names("1")
    await world.check()
    world.hosts[0].backlog = Backlog(requests=2, seconds=10)
    assert reported(await world.reading(), "canary") == (
        "degraded",
        (
            "version 1 has finished no prediction for 10 s, and 2 requests wait; "
            "after 5 min (stall_timeout) its process is replaced"
        ),
    )
    assert world.serves == "1"
    for well in (Backlog(requests=2, seconds=9.9), Backlog(requests=0, seconds=60)):
        world.hosts[0].backlog = well
        assert reported(await world.reading(), "canary")[0] == "healthy"
    world.hosts[0].backlog = Backlog(requests=2, seconds=60)
    world.hosts[0].next_canary = failing("NaN")
    assert reported(await world.check(), "canary")[0] == "unhealthy"


async def test_a_version_that_may_take_long_has_that_long_before_it_is_degraded(tmp_path: Path) -> None:
    world = World(tmp_path, prediction={"timeout": 60}, canary={"timeout": 90})
    world.names("1")
    await world.check()
    world.hosts[0].backlog = Backlog(requests=1, seconds=89)
    assert reported(await world.reading(), "canary")[0] == "healthy"
    world.hosts[0].backlog = Backlog(requests=1, seconds=90)
    assert reported(await world.reading(), "canary")[0] == "degraded"
    await world.reconciler.close()


async def test_a_version_whose_joined_requests_were_answered_otherwise_is_never_joined_again(
    world: World,
) -> None:
    output = (
        "degraded",
        (
            "version 1 predicted joined requests differently from single ones; "
            'requests are no longer joined; set batching = "off"'
        ),
    )
    world.names("1")
    await world.check()
    assert not world.hosts[0].is_mismatched
    world.hosts[0].report_mismatch()
    assert reported(await world.check(), "batching") == output
    assert world.sink.reported.count((1, {})) == 1
    world.hosts[0].die()
    await world.until(lambda: len(world.hosts) == 2)
    await world.until_serving("1")
    await world.reconciler.reload(dry_run=False, force=True)
    await world.reconciler.close()
    world.mismatches = set()  # the daemon is started again
    world.begin()
    reading = await world.check()
    assert reported(reading, "batching") == output
    assert [host.is_mismatched for host in world.hosts] == [False, True, True, True]
    world.names("2")
    reading = await world.check()
    assert world.serves == "2"
    assert not world.hosts[-1].is_mismatched
    assert "batching" not in {finding.name for finding in reading.findings}


async def test_a_mismatch_is_no_finding_where_batching_is_off(world: World) -> None:
    world.names("1")
    await world.check()
    world.hosts[0].report_mismatch()
    before = world.amend(prediction=PredictionOptions(batching="off"))
    await before.close()
    reading = await world.check()
    assert "batching" not in {finding.name for finding in reading.findings}
    before = world.amend(prediction=PredictionOptions(batching="on"))
    await before.close()
    assert reported(await world.check(), "batching")[0] == "degraded"


async def test_a_mismatch_that_the_disk_does_not_take_is_known_at_once_and_noted_later(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.names("1")
    await world.check()

    def no_room(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(store, "write_atomically", no_room)
    world.hosts[0].report_mismatch()
    world.hosts[0].die()
    await world.until(lambda: len(world.hosts) == 2)
    assert world.hosts[1].is_mismatched
    await world.until_serving("1")
    monkeypatch.undo()
    await world.check()
    await world.reconciler.close()
    world.mismatches = set()
    world.begin()
    await world.check()
    assert world.hosts[-1].is_mismatched


async def test_a_version_that_is_corrupt_on_disk_is_fetched_again(world: World) -> None:
    world.names("1")
    await world.check()
    await world.reconciler.close()
    world.load_fails["1"] = LoadFailed("corrupt", "MLmodel is not what was fetched")
    world.begin()
    await world.check(2)
    assert world.registry.fetched == ["1", "1"]
    assert world.serves == "1"


async def test_where_the_current_version_no_longer_loads_the_one_before_serves(world: World) -> None:
    world.names("1")
    await world.check()
    world.names("2")
    await world.check()
    await world.reconciler.close()
    world.registry.complaints = (DOWN,)
    world.load_fails["2"] = LoadFailed("import_error", "no module named 'torch'")
    world.begin()
    await world.check()
    assert world.serves is None
    world.wait(2)
    await world.until_serving("1")


async def test_with_hold_a_later_candidate_does_not_replace_a_verified_version(world: World) -> None:
    world.amend(fallback="hold")
    world.names("6")
    await world.check()
    world.names("5", candidate="Production", rank=1)
    reading = await world.check(2)
    assert world.serves == "6"
    assert reported(reading, "fallback") == (
        "degraded",
        (
            "http://registry names version 5 by Production; verified version 6 (@champion) is kept; "
            'set @champion again, or set fallback = "follow"'
        ),
    )
    assert "drift_since" not in reading.facts
    assert reading.facts["desired"] == reading.facts["held_back"]
    assert (reading.facts["desired"]["version"], reading.facts["served"]["version"]) == ("5", "6")
    desired = next(sample for sample in reading.samples if sample.name == "desired_version")
    assert desired.value == 5


async def test_where_a_candidate_is_gone_the_next_one_is_followed(world: World) -> None:
    """As with rings: the alias of the first ring is taken away, and the host goes back to the champion."""
    world.names("6")
    await world.check()
    world.names("5", candidate="Production", rank=1)
    reading = await world.check(2)
    assert world.serves == "5"
    assert reading.facts["desired"]["candidate"] == "Production"
    assert "held_back" not in reading.facts


async def test_a_candidate_that_is_not_ready_yet_is_waited_for(world: World) -> None:
    world.names("6")
    await world.check()
    world.names("5", candidate="Production", rank=1)
    world.registry.reported = (Complaint(URI, "not_ready", "@champion leads to version 7, which is PENDING"),)
    reading = await world.check(2)
    assert world.serves == "6"
    assert reading.facts["held_back"]["version"] == "5"


async def test_a_later_registry_replaces_no_verified_version_and_none_that_is_restored(world: World) -> None:
    world.names("6")
    await world.check()
    world.registry.names = replace(version("5"), registry="http://second", registry_rank=1)
    reading = await world.check(2)
    assert world.serves == "6"
    assert "a later registry never replaces it" in reported(reading, "fallback")[1]
    await world.reconciler.close()
    world.begin()
    await world.check(2)
    assert (world.serves, world.registry.fetched) == ("6", ["6"])


async def test_nothing_is_desired_while_no_registry_says_so(world: World) -> None:
    world.names("6")
    await world.check()
    world.registry.complaints = (DOWN,)
    reading = await world.check()
    assert world.serves == "6"
    assert "desired" not in reading.facts
    assert not [sample for sample in reading.samples if sample.name == "desired_version"]
    assert all(finding.name != "version_drift" for finding in reading.findings)


@pytest.mark.parametrize(("choice", "status"), [("warn", "degraded"), ("accept", "healthy")])
async def test_a_version_without_a_signature_is_a_finding(world: World, choice: str, status: str) -> None:
    world.amend(on_no_signature=choice)
    world.names("1")
    await world.check()
    assert all(finding.name != "signature" for finding in (await world.reading()).findings)
    world.hosts[-1].facts["signature"] = False
    found = reported(await world.reading(), "signature")
    assert found[0] == status
    assert "has no signature, so what callers send is not checked" in found[1]


async def test_a_fallback_serves_where_nothing_else_does_and_is_degraded(world: World) -> None:
    world.names("5", candidate="Production", rank=1)
    reading = await world.check()
    assert world.serves == "5"
    assert reported(reading, "fallback")[0] == "degraded"
    world.names("6")
    assert (await world.check()).status is Status.HEALTHY
    assert world.serves == "6"


async def test_a_full_disk_is_a_finding_and_the_old_version_serves(world: World) -> None:
    world.names("1")
    await world.check()
    world.registry.fails = FetchError("disk_full", "no space left on device; make room")
    world.names("2")
    reading = await world.check()
    assert world.serves == "1"
    status, output = reported(reading, "cache")
    assert status == "degraded"
    assert "no space left on device" in output
    assert "rejected" not in reading.facts, "the disk is no fault of the version"
    world.registry.fails = None
    await world.check()
    assert world.serves == "1", "the wait was skipped"
    world.wait(2)
    reading = await world.check(2)
    assert world.serves == "2"
    assert reported(reading, "cache")[0] == "healthy"


async def test_what_a_full_disk_would_not_note_is_noted_when_there_is_room(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.names("1")
    await world.check()

    def no_room(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    world.names("2")
    world.loading.clear()
    await world.reconciler.check()
    await world.until_at("2", "load")
    monkeypatch.setattr(store, "write_atomically", no_room)
    world.loading.set()
    reading = await world.check(2)
    assert world.serves == "2"
    assert reported(reading, "cache")[0] == "degraded"
    assert "No space left on device; make room" in reported(reading, "cache")[1]
    monkeypatch.undo()
    assert (await world.check()).status is Status.HEALTHY
    world.registry.complaints = (DOWN,)
    await world.reconciler.close()
    world.begin()
    await world.check()
    assert world.serves == "2", "a restart began with the version before"


async def test_a_full_disk_is_no_finding_once_nothing_is_wanted_of_it(world: World) -> None:
    world.names("1")
    await world.check()
    world.registry.fails = FetchError("disk_full", "no space left on device; make room")
    world.names("2")
    reading = await world.check()
    assert (reading.status, reported(reading, "cache")[0]) == (Status.DEGRADED, "degraded")
    world.names("1")
    assert (await world.check()).status is Status.HEALTHY


async def test_a_version_whose_metrics_cannot_be_read_waits_for_the_registry(tmp_path: Path) -> None:
    world = World(tmp_path, thresholds={"accuracy": Range(min=0.9)})
    world.registry.judges = RegistryError(DOWN)
    world.names("1")
    await world.check()
    assert world.serves is None
    world.registry.judges = None
    world.registry.scores = {"1": {"accuracy": 1.0}}
    world.wait(2)
    await world.check(2)
    assert world.serves == "1"
    await world.reconciler.close()


async def test_a_version_without_a_judged_metric_is_rejected(tmp_path: Path) -> None:
    world = World(tmp_path, thresholds={"acuracy": Range(min=0.9)})
    world.registry.scores = {"1": {"accuracy": 1.0}}
    world.names("1")
    reading = await world.check()
    assert world.serves is None
    assert reading.facts["rejected"][0]["reason"] == "metric acuracy was never logged"
    await world.reconciler.close()


async def test_the_facts_have_the_judged_metrics_with_their_source(tmp_path: Path) -> None:
    world = World(tmp_path, thresholds={"accuracy": Range(min=0.9)})
    world.registry.scores = {"1": {"accuracy": 1.0, "loss": 0.1}}
    world.names("1")
    assert (await world.check()).facts["metrics"] == {
        "accuracy": {"value": 1.0, "source": "run 1", "logged_at": "2026-01-02T00:00:00.000Z"}
    }
    await world.reconciler.close()


async def test_a_metric_that_was_never_logged_is_a_warning_on_request(tmp_path: Path) -> None:
    world = World(tmp_path, thresholds={"accuracy": Range(min=0.9)}, on_missing="warn")
    world.names("1")
    reading = await world.check()
    assert world.serves == "1"
    assert reported(reading, "thresholds") == ("degraded", "thresholds for what was never logged: accuracy")
    await world.reconciler.close()


async def test_an_unverified_version_serves_and_is_never_plain_healthy(world: World) -> None:
    world.canaries["1"] = replace(WELL, verified=False, source="none", rows=None)
    world.names("1")
    reading = await world.check()
    assert world.serves == "1"
    assert reported(reading, "canary")[0] == "degraded"


async def test_a_slow_first_canary_may_be_a_warm_up_and_a_slow_second_one_is_not(tmp_path: Path) -> None:
    world = World(tmp_path, canary=CanaryOptions(timeout=1))
    world.canaries["1"] = replace(WELL, seconds=5.0)
    world.names("1")
    await world.check()
    assert world.serves == "1"
    await world.reconciler.close()


async def test_where_memory_holds_only_one_the_old_one_goes_first_and_comes_back(tmp_path: Path) -> None:
    world = World(tmp_path, swap="replace")
    world.names("1")
    await world.check()
    world.names("2")
    world.canaries["2"] = failing("NaN")
    await world.check()
    assert world.hosts[0].ended
    assert [host.number for host in world.hosts] == ["1", "2", "1"]
    assert world.serves == "1"
    world.canaries["2"] = WELL
    await world.reconciler.reload(dry_run=False, force=False)
    assert world.serves == "2"
    await world.reconciler.close()


async def test_an_obstacle_holds_a_version_back_and_force_overrides_it(world: World) -> None:
    world.cuda = True
    world.names("1")
    await world.check()
    world.break_gpu(2, "it fell off the bus")
    world.names("2")
    reading = await world.check()
    assert world.serves == "1"
    assert "it is not taken up: gpu 2 is unhealthy" in reported(reading, "version_drift")[1]
    with pytest.raises(
        ReloadRefused,
        match=r"version 2: gpu 2 is unhealthy: it fell off the bus; add \?force=true to roll it out anyway",
    ):
        await world.reconciler.reload(dry_run=False, force=False)
    await world.reconciler.reload(dry_run=False, force=True)
    assert world.serves == "2"


async def test_a_rehearsal_says_what_a_reload_would_do_and_does_nothing(world: World) -> None:
    world.names("1")
    await world.check()
    world.names("2")
    output = await world.reconciler.reload(dry_run=True, force=False)
    assert output == (
        "version 2 (@champion) has no thresholds to reach, and would be fetched; version 1 serves until then"
    )
    assert world.registry.fetched == ["1"]
    world.names("1")
    assert "its canary would run again" in await world.reconciler.reload(dry_run=True, force=False)


async def test_a_reload_waits_for_what_is_on_its_way(world: World) -> None:
    world.names("1")
    world.loading.clear()
    await world.reconciler.check()
    with pytest.raises(ReloadRefused, match="version 1"):
        await world.reconciler.reload(dry_run=True, force=False)
    reloading = asyncio.create_task(world.reconciler.reload(dry_run=False, force=False))
    await asyncio.sleep(0.02)
    world.loading.set()
    assert "version 1 already serves, and the registry names it" in await reloading
    assert len(world.hosts) == 1


async def test_a_forced_reload_of_what_serves_loads_it_again(world: World) -> None:
    world.names("1")
    await world.check()
    await world.reconciler.reload(dry_run=False, force=True)
    assert [host.number for host in world.hosts] == ["1", "1"]
    assert world.hosts[0].ended


async def test_a_version_in_service_that_fails_its_canary_is_unhealthy(world: World) -> None:
    world.names("1")
    await world.check()
    world.hosts[0].next_canary = failing("no answer within 10 s")
    reading = await world.check()
    assert reported(reading, "canary") == ("unhealthy", "version 1 fails its canary: no answer within 10 s")


async def test_too_many_requests_at_a_time_are_turned_away(tmp_path: Path) -> None:
    world = World(tmp_path, prediction=PredictionOptions(max_in_flight=2))
    world.names("1")
    await world.check()
    world.hosts[0].hangs = True
    waiting = [asyncio.create_task(world.reconciler.active.predict(b"", JSON)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(PredictionError) as refusal:
        await world.reconciler.active.predict(b"", JSON)
    assert (refusal.value.code, refusal.value.retry_after) == (429, 1.0)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    world.hosts[0].hangs = False
    assert (await world.reconciler.active.predict(b"", JSON)).body == b"1"
    await world.reconciler.close()


async def test_a_request_that_its_caller_gave_up_still_takes_a_place(tmp_path: Path) -> None:
    world = World(tmp_path, prediction=PredictionOptions(max_in_flight=2))
    world.names("1")
    await world.check()
    world.hosts[0].predictions_in_flight = 2  # their callers got 504, and the process still has them
    with pytest.raises(PredictionError) as refusal:
        await world.reconciler.active.predict(b"", JSON)
    assert (refusal.value.code, refusal.value.retry_after) == (429, 1.0)
    world.hosts[0].predictions_in_flight = 1
    assert (await world.reconciler.active.predict(b"", JSON)).body == b"1"
    await world.reconciler.close()


async def test_closing_in_the_middle_of_a_fetch_leaves_nothing_half_fetched(world: World) -> None:
    await world.set_out("1", "fetch")
    await world.reconciler.close()
    world.registry.fetching.set()
    world.begin()
    await world.check()
    assert world.serves == "1"
    assert [path.name for path in world.folder.rglob("*.part")] == []
