"""Events during a rollout: another version named, dead processes, other disks and tables."""

import asyncio
import errno
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from mlopsd.probe import ReloadRefused, Status
from mlopsd_probes.causes import REGISTRY, cause_of, kinds_of
from mlopsd_probes.model.options import CanaryOptions, Range
from mlopsd_probes.model.rollout.plan import Observed
from mlopsd_probes.model.rollout.reconciler import Reconciler
from mlopsd_probes.model.serving.host import LoadFailed
from mlopsd_probes.registry.registries import Complaint, FetchError, RegistryError
from mlopsd_probes.registry.version import Version
from tests.model.world import DOWN, URI, WELL, FakeHost, World, failing, reported
from tests.running import GIVE_UP

ABSENT = Complaint(URI, "absent", "no version of 'iris' is @champion; give a version one of these names")
STRICT = {"accuracy": Range(min=0.9)}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    yield world
    await world.reconciler.close()


@pytest.fixture
async def strict(tmp_path: Path) -> AsyncIterator[World]:
    """A world with a threshold, so that versions are judged by metrics that have to be read."""
    world = World(tmp_path, thresholds=STRICT, on_missing="warn")
    yield world
    await world.reconciler.close()


async def restarted(world: World, **changed: object) -> Reconciler:
    """The daemon is started again, with its table *changed*."""
    await world.reconciler.close()
    world.options = world.options.model_copy(update=changed)
    return world.begin()


@pytest.mark.parametrize("now_wanted", ["1", "3"])
async def test_a_fetch_for_a_version_that_is_not_wanted_any_more_is_given_up(
    world: World, now_wanted: str
) -> None:
    world.names("1")
    await world.check()
    await world.set_out("2", "fetch")
    world.names(now_wanted)
    await world.reconciler.check()
    world.registry.fetching.set()
    reading = await world.check(2)
    assert world.serves == now_wanted
    assert "2" not in {host.number for host in world.hosts}
    assert reading.status is Status.HEALTHY
    assert len(list(world.folder.rglob("2-*.part"))) == 1, "what came stays, in case the alias moves back"


@pytest.mark.parametrize("step", ["judge", "fetch", "load", "canary"])
async def test_a_version_whose_alias_is_deleted_is_given_up_in_the_middle_of_any_step(
    strict: World, step: str
) -> None:
    world = strict
    world.registry.scores = {"1": {"accuracy": 1.0}, "2": {"accuracy": 1.0}}
    world.names("1")
    await world.check()
    await world.set_out("2", step)
    world.registry.complaints = (ABSENT,)
    await world.reconciler.check()
    await world.settle()  # with what it waits for still not there
    world.go_on("2")
    reading = await world.check(2)
    assert world.serves == "1"
    assert all(host.is_killed for host in world.hosts if host.number == "2")
    assert not {"desired", "drift_since", "rejected"} & reading.facts.keys()
    assert reported(reading, "registry") == ("degraded", f"{URI}: {ABSENT.reason}")
    assert len(list(world.folder.rglob("2-*.part"))) == (step == "fetch")
    world.registry.complaints = ()
    await world.check()
    assert world.serves == "2"


@pytest.mark.parametrize("step", ["load", "canary"])
async def test_what_was_set_aside_for_a_version_that_is_given_up_serves_again(
    tmp_path: Path, step: str
) -> None:
    world = World(tmp_path, swap="replace")
    world.names("1")
    await world.check()
    await world.set_out("2", step)
    world.names("1")
    await world.check()
    assert world.serves == "1"
    assert (await world.reading()).status is Status.HEALTHY
    await world.reconciler.close()


async def test_what_is_on_its_way_continues_although_a_registry_is_down(world: World) -> None:
    world.names("1")
    await world.check()
    await world.set_out("2", "fetch")
    world.registry.complaints = (DOWN, ABSENT)
    await world.reconciler.check()
    world.go_on("2")
    await world.until_serving("2")


async def test_a_rejection_is_forgotten_with_the_alias_that_named_the_version(world: World) -> None:
    world.names("1")
    await world.check()
    world.canaries["2"] = failing("NaN")
    world.names("2")
    assert (await world.check()).facts["rejected"]
    world.registry.complaints = (ABSENT,)
    assert "rejected" not in (await world.check()).facts


@pytest.mark.parametrize(
    ("complaints", "output"),
    [
        ((), "a registry names version 3 now"),
        ((ABSENT,), "no registry names it any more"),
    ],
)
async def test_a_reload_of_a_version_that_is_given_up_learns_so(
    world: World, complaints: tuple[Complaint, ...], output: str
) -> None:
    world.names("1")
    await world.check()
    world.names("2")
    world.registry.fetching.clear()
    reloading = asyncio.create_task(world.reconciler.reload(dry_run=False, force=False))
    await world.until_at("2", "fetch")
    world.names("3")
    world.registry.complaints = complaints
    await world.reconciler.check()
    with pytest.raises(ReloadRefused, match=f"cannot roll out version 2: {output}"):
        await reloading


async def test_a_host_that_dies_is_replaced_while_another_version_is_being_fetched(world: World) -> None:
    world.names("1")
    await world.check()
    await world.set_out("2", "fetch")
    world.hosts[0].die()
    async with asyncio.timeout(GIVE_UP):
        while len(world.hosts) < 2:
            await asyncio.sleep(0.005)
    await world.until_serving("1")
    world.registry.fetching.set()
    await world.until_serving("2")
    await world.settle()
    assert [bool(host.ended) for host in world.hosts] == [False, True, False]


async def test_a_version_that_comes_first_is_not_replaced_by_the_one_that_is_restored(world: World) -> None:
    world.names("1")
    await world.check()
    await world.set_out("2", "fetch")
    gate = world.gates["1"] = asyncio.Event()
    world.hosts[0].die()
    await world.until(lambda: world.steps_of("1")[-1] == "load")
    world.registry.fetching.set()
    await world.until_serving("2")
    gate.set()
    await world.settle()
    assert world.serves == "2"
    assert [host.is_killed for host in world.hosts if host.number == "1"][1:] == [True]


async def test_a_disk_that_is_full_for_the_next_version_does_not_delay_the_one_that_served(
    world: World,
) -> None:
    world.names("1")
    await world.check()
    world.registry.fails = FetchError("disk_full", "no space left on device; make room")
    world.names("2")
    await world.check()
    world.hosts[0].die()
    await world.until(lambda: len(world.hosts) == 2)
    await world.until_serving("1")


async def test_where_what_served_loads_no_more_the_wanted_version_is_taken_up(world: World) -> None:
    world.names("1")
    await world.check()
    world.load_fails["1"] = LoadFailed("import_error", "no module named 'torch'")
    world.names("2")
    await restarted(world)
    await world.check(2)
    assert world.serves == "2"


async def test_what_is_corrupt_on_disk_while_no_registry_answers_is_named(world: World) -> None:
    world.names("1")
    await world.check()
    world.load_fails["1"] = LoadFailed("corrupt", "the file MLmodel is missing on disk")
    world.registry.complaints = (DOWN,)
    await restarted(world)
    reading = await world.check()
    assert reported(reading, "serving")[0] == "unhealthy"
    assert (
        "version 1, which served before, does not start (the file MLmodel is missing"
        in reported(reading, "serving")[1]
    )


async def test_a_table_that_prefers_another_name_goes_by_that_and_not_by_what_is_on_disk(
    world: World,
) -> None:
    world.names("1")
    await world.check()
    await restarted(world, candidates=("@blue", "@champion"))
    world.names("2", candidate="@champion", rank=1)
    await world.check(2)
    assert world.serves == "2"


async def test_a_version_that_served_before_is_judged_by_the_thresholds_of_today(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.registry.scores = {"1": {"accuracy": 0.5}, "2": {"accuracy": 0.95}}
    world.names("1")
    await world.check()
    world.names("2")
    await world.check()
    await restarted(world, thresholds=STRICT)
    await world.check()
    world.names("1")
    reading = await world.check(2)
    assert world.serves == "2"
    assert reading.facts["rejected"][0]["reason"] == "metric accuracy is 0.5, below 0.9"
    await world.reconciler.close()


async def test_what_serves_under_stricter_thresholds_keeps_serving_and_reports_it(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.registry.scores = {"1": {"accuracy": 0.5}}
    world.names("1")
    await world.check()
    await restarted(world, thresholds=STRICT)
    reading = await world.check()
    assert world.serves == "1"
    assert reported(reading, "thresholds") == (
        "degraded",
        "version 1 keeps serving; it would be rejected now (metric accuracy is 0.5, below 0.9)",
    )
    await world.reconciler.close()


async def test_nothing_is_within_a_threshold_that_nobody_has_held_it_against(tmp_path: Path) -> None:
    world = World(tmp_path, thresholds=STRICT)
    world.registry.scores = {"1": {"accuracy": 1.0}}
    world.names("1")
    await world.check()
    world.registry.complaints = (DOWN,)
    await restarted(world)
    assert reported(await world.check(), "thresholds") == (
        "degraded",
        "version 1 serves, and could not be held against the thresholds since the start",
    )
    world.registry.complaints = ()
    assert (await world.check()).status is Status.HEALTHY
    await world.reconciler.close()


async def test_a_metric_that_was_never_logged_is_still_missing_after_a_restart(tmp_path: Path) -> None:
    world = World(tmp_path, thresholds=STRICT, on_missing="warn")
    world.names("1")
    await world.check()
    await restarted(world)
    assert reported(await world.check(), "thresholds")[1] == "thresholds for what was never logged: accuracy"
    await world.reconciler.close()


async def test_what_was_rejected_is_not_fetched_again_to_be_tried_again(world: World) -> None:
    world.names("1")
    await world.check()
    world.canaries["2"] = failing("NaN")
    world.names("2")
    await world.check()
    world.passed = timedelta(seconds=world.options.rejected_backoff + 1)
    await world.check(2)
    assert world.registry.fetched == ["1", "2"]
    assert [host.number for host in world.hosts] == ["1", "2", "2"]


async def test_what_was_rejected_makes_room_for_the_next(world: World) -> None:
    world.names("1")
    await world.check()
    for number in ("2", "3", "4"):
        world.canaries[number] = failing("NaN")
        world.names(number)
        await world.check()
    folders = {path.name.partition("-")[0] for path in world.folder.glob("models/iris/*/")}
    assert folders == {"1", "4"}


async def test_a_rehearsal_that_is_refused_leaves_no_progress_behind(tmp_path: Path) -> None:
    world = World(tmp_path, thresholds=STRICT)
    world.registry.scores = {"1": {"accuracy": 0.5}}
    world.names("1")
    await world.check()
    with pytest.raises(ReloadRefused, match="version 1 would be rejected: metric accuracy is 0"):
        await world.reconciler.reload(dry_run=True, force=False)
    reading = await world.reading()
    assert "progress" not in reading.facts
    assert reported(reading, "serving")[0] == "unhealthy"
    await world.reconciler.close()


async def test_metrics_that_cannot_be_read_are_named_until_they_can(tmp_path: Path) -> None:
    world = World(tmp_path, thresholds=STRICT)
    world.registry.judges = RegistryError(Complaint(URI, "auth", "it refused the credentials (403)"))
    world.names("1")
    reading = await world.check(3)
    assert "the metrics of version 1 cannot be had: it refused the credentials (403)" in " ".join(
        finding.summary for finding in reading.findings
    )
    await world.reconciler.close()


@pytest.mark.parametrize("kind", [*sorted(kinds_of(REGISTRY) - {"disk", "disk_full"}), "nonesuch"])
async def test_files_that_a_registry_does_not_give_are_its_trouble_and_no_rejection_of_the_version(
    world: World, kind: str
) -> None:
    world.names("1")
    await world.check()
    world.registry.fails = FetchError(kind, "cannot use /srv/runs: Permission denied; make it accessible")
    world.names("2")
    reading = await world.check()
    assert world.serves == "1"
    assert "rejected" not in reading.facts
    output = "http://registry: the files of version 2 cannot be had: cannot use /srv/runs: Permission denied"
    assert output in reported(reading, "registry")[1]
    assert "last answered" not in reported(reading, "registry")[1], "it answers, and has no files"
    (finding,) = [finding for finding in reading.findings if finding.name == "registry"]
    assert finding.advice is cause_of(REGISTRY, kind).advice
    with pytest.raises(
        ReloadRefused, match="cannot roll out version 2: the files of version 2 cannot be had"
    ):
        await world.reconciler.reload(dry_run=False, force=False)
    world.names("1")
    assert reported(await world.check(), "registry")[0] == "healthy"
    world.names("2")
    world.registry.fails = None
    assert (
        await world.reconciler.reload(dry_run=False, force=False)
        == "version 2 (@champion) serves instead of 1"
    )
    assert reported(await world.check(), "registry")[0] == "healthy"


async def test_a_folder_of_ours_that_cannot_be_used_is_the_disks_trouble(world: World) -> None:
    world.names("1")
    await world.check()
    world.registry.fails = FetchError("disk", "cannot use /var/lib/x: Read-only file system")
    world.names("2")
    reading = await world.check()
    assert "rejected" not in reading.facts
    assert "Read-only file system" in reported(reading, "cache")[1]


async def test_a_reload_without_a_registry_is_no_reload(world: World) -> None:
    world.names("1")
    await world.check()
    world.registry.complaints = (DOWN,)
    with pytest.raises(
        ReloadRefused, match="no registry names a version: http://registry: connection refused"
    ):
        await world.reconciler.reload(dry_run=False, force=False)
    output = await world.reconciler.reload(dry_run=False, force=True)
    assert output == "version 1 (@champion) serves after a reload"
    assert len(world.hosts) == 2


async def test_a_reload_of_what_a_fallback_may_not_replace_does_not_say_that_it_is_named(
    world: World,
) -> None:
    world.amend(fallback="hold")
    world.names("6")
    await world.check()
    world.names("5", candidate="Production", rank=1)
    output = await world.reconciler.reload(dry_run=False, force=False)
    assert output == (
        "version 6 keeps serving: Production is a fallback, version 5; it passed its canary again"
    )


async def test_a_registry_that_has_no_version_has_answered_now_and_not_long_ago(world: World) -> None:
    world.names("1")
    await world.check()
    world.passed = timedelta(minutes=12)
    world.registry.complaints = (ABSENT,)
    assert reported(await world.check(), "registry")[1] == f"{URI}: {ABSENT.reason}"


async def test_a_process_that_finds_no_room_is_the_disks_fault_and_not_the_versions(
    tmp_path: Path,
) -> None:
    world = World(tmp_path, swap="replace")
    world.names("1")
    await world.check()
    world.no_process["2"] = OSError(errno.ENOSPC, "No space left on device")
    world.names("2")
    reading = await world.check()
    assert world.serves == "1", "it was not brought back"
    assert "rejected" not in reading.facts
    assert "cannot start a process for the model" in reported(reading, "cache")[1]
    await world.reconciler.close()


async def test_a_reload_beside_the_first_check_clears_up_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    removed: list[Path] = []
    monkeypatch.setattr("mlopsd_probes.model.cache.versions.tidy", lambda path, *_: removed.append(path))
    world.names("1")
    await asyncio.gather(
        world.reconciler.check(), world.reconciler.reload(dry_run=False, force=False), return_exceptions=True
    )
    assert len(removed) == 1


async def test_a_canary_may_take_longer_than_a_check_and_its_end_is_reported(tmp_path: Path) -> None:
    world = World(tmp_path, canary=CanaryOptions(timeout=60))
    world.names("1")
    await world.check()
    world.timeout = 0.2
    await restarted(world)
    await world.check()
    host = world.hosts[-1]
    host.proving.clear()
    async with asyncio.timeout(GIVE_UP):
        await world.reconciler.check()
        reading = await world.reading()
    assert reported(reading, "canary")[0] == "healthy"
    host.next_canary = failing("no answer within 60 s")
    host.proving.set()
    assert reported(await world.check(), "canary")[0] == "unhealthy"
    await world.reconciler.close()


async def test_a_reload_by_force_that_fails_leaves_no_rejection_of_what_serves(world: World) -> None:
    world.names("1")
    await world.check()
    world.canaries["1"] = failing("NaN")
    with pytest.raises(ReloadRefused, match="version 1 was rejected: NaN"):
        await world.reconciler.reload(dry_run=False, force=True)
    assert world.serves == "1"
    reading = await world.check()
    assert "rejected" not in reading.facts
    assert reading.status is Status.HEALTHY


async def test_an_alias_that_is_gone_takes_nothing_out_of_service(world: World) -> None:
    world.names("1")
    await world.check()
    world.registry.complaints = (ABSENT,)
    reading = await world.check(2)
    assert world.serves == "1"
    assert reading.status is Status.DEGRADED


@pytest.mark.parametrize("step", ["judge", "fetch", "load", "canary"])
async def test_what_is_closed_in_the_middle_leaves_no_host_and_nothing_half_fetched(
    strict: World, step: str
) -> None:
    world = strict
    world.names("1")
    await world.check()
    await world.set_out("2", step)
    await world.reconciler.close()
    await asyncio.sleep(0.05)
    assert all(host.is_killed for host in world.hosts)
    world.go_on("2")
    world.begin()
    await world.check(2)
    assert world.serves == "2"
    assert not list(world.folder.rglob("*.part"))


async def test_two_versions_that_are_swapped_to_and_fro_end_with_the_last_one(world: World) -> None:
    world.names("1")
    await world.check()
    for number in ("2", "1", "2", "1", "2"):
        world.names(number)
        await world.reconciler.check()
    await world.check(3)
    assert world.serves == "2"
    alive = [host for host in world.hosts if not (host.ended or host.is_killed)]
    assert [host.number for host in alive] == ["2"]


async def test_a_canary_in_service_that_says_nothing_is_not_verified(world: World) -> None:
    world.names("1")
    await world.check()
    world.hosts[0].next_canary = replace(WELL, verified=False, source="none", rows=None)
    assert reported(await world.check(), "canary")[0] == "degraded"


async def test_a_changed_table_takes_nothing_out_of_service(world: World) -> None:
    world.names("1")
    await world.check()
    world.gates["1"] = asyncio.Event()
    before = world.amend(canary=CanaryOptions(max=5))
    assert world.serves == "1"
    await before.close()
    await world.reconciler.check()
    async with asyncio.timeout(GIVE_UP):
        while world.steps_of("1")[-1] != "load":
            await asyncio.sleep(0.005)
    assert (await world.reconciler.active.predict(b"for ", "application/json")).body == b"for 1"
    assert reported(await world.reading(), "serving") == (
        "degraded",
        "version 1 (@champion) answers, as the table said before it was changed; loading version 1",
    )
    assert not world.hosts[0].is_killed
    world.gates["1"].set()
    reading = await world.check()
    assert reading.status is Status.HEALTHY
    assert [bool(host.ended) for host in world.hosts] == [True, False]
    assert world.registry.fetched == ["1"]


async def test_what_fails_by_a_changed_table_is_rejected_and_keeps_serving_by_the_old_one(
    world: World,
) -> None:
    world.names("1")
    await world.check()
    world.canaries["1"] = failing("it predicted 7, above the configured maximum 5")
    await world.amend(canary=CanaryOptions(max=5)).close()
    reading = await world.check(2)
    assert world.serves == "1"
    assert reported(reading, "serving")[0] == "degraded"
    assert reading.facts["rejected"][0]["reason"] == "it predicted 7, above the configured maximum 5"
    assert len(world.hosts) == 2, "it was tried again at once"


async def test_a_changed_table_is_respected_without_a_registry_too(world: World) -> None:
    world.names("1")
    await world.check()
    world.registry.complaints = (DOWN,)
    await world.amend(canary=CanaryOptions(max=5)).close()
    await world.check()
    assert world.serves == "1"
    assert len(world.hosts) == 2
    assert reported(await world.reading(), "serving")[0] == "healthy"


async def test_a_host_that_dies_after_its_table_has_changed_comes_back_by_the_new_one(world: World) -> None:
    world.names("1")
    await world.check()
    before = world.amend(canary=CanaryOptions(max=5))
    world.hosts[0].die()
    await before.close()
    await world.check(2)
    assert world.serves == "1"
    reading = await world.reading()
    assert reading.facts["host"]["restarts"] == 1
    assert reported(reading, "serving")[0] == "healthy"


async def test_an_answer_that_comes_after_the_check_asks_for_another(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.timeout = 0.1
    await restarted(world)
    world.names("1")
    world.registry.answering.clear()
    await world.reconciler.check()
    assert (world.serves, world.wishes) == (None, 0)
    world.registry.answering.set()
    async with asyncio.timeout(GIVE_UP):
        while not world.wishes:
            await asyncio.sleep(0.005)
    await world.check()
    assert world.serves == "1"
    await world.reconciler.close()


# Faults of ours, and tables that change, in the middle


def broken_thread(*_: object) -> None:
    raise RuntimeError("can't start new thread")


async def test_the_replaced_process_is_ended_though_the_table_changes_right_after_the_swap(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.names("1")
    await world.check()
    reading_memory = asyncio.Event()

    async def rss(host: FakeHost) -> int:
        if host.number == "2":
            reading_memory.set()
            await asyncio.get_running_loop().create_future()
        return 10**8

    monkeypatch.setattr(FakeHost, "rss", rss)
    world.names("2")
    await world.reconciler.check()
    await reading_memory.wait()
    before = world.amend(hang_timeout=50.0)
    await before.close()
    assert world.hosts[0].ended or world.hosts[0].is_killed


async def test_the_replaced_process_is_ended_though_noting_the_new_one_fails(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.names("1")
    await world.check()
    monkeypatch.setattr(world.reconciler._cached, "choose", broken_thread)
    world.names("2")
    await world.check()
    assert world.serves == "2"
    assert world.hosts[0].ended


async def test_a_fault_of_ours_in_a_turn_does_not_end_the_loop(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.names("1")
    await world.check()
    monkeypatch.setattr(world.reconciler, "_find_precondition", broken_thread)
    world.names("2")
    await world.reconciler.check()
    assert "can't start new thread" in reported(await world.reading(), "cache")[1]
    monkeypatch.undo()
    wishes = world.wishes
    world.hosts[0].die()
    await world.until_serving("2")  # without another check
    assert world.wishes > wishes


async def test_a_check_while_the_loop_fails_still_reports_what_serves(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.names("1")
    await world.check()
    monkeypatch.setattr(world.reconciler, "_find_precondition", broken_thread)
    world.names("2")
    for _ in range(2):
        await world.reconciler.check()
        assert reported(await world.reading(), "serving")[0] == "healthy"


async def test_a_dry_run_holds_nothing_back_once_it_is_over(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.names("1")
    await world.check()
    world.names("2")
    reconciler, deciding = world.reconciler, asyncio.Event()
    observe = reconciler._observe_for_reload

    async def slow(found: Version | None, *, force: bool) -> Observed:
        await deciding.wait()
        return await observe(found, force=force)

    monkeypatch.setattr(reconciler, "_observe_for_reload", slow)
    rehearsing = asyncio.create_task(reconciler.reload(dry_run=True, force=False))
    await asyncio.sleep(0.01)
    await reconciler.check()
    assert world.serves == "1"
    deciding.set()
    await rehearsing
    await world.until_serving("2")  # without another check


async def test_a_reload_under_a_table_that_was_changed_is_refused_and_starts_nothing(world: World) -> None:
    world.names("1")
    await world.check()
    await world.set_out("2", "load")
    reloading = asyncio.create_task(world.reconciler.reload(dry_run=False, force=False))
    await asyncio.sleep(0.01)
    before = world.amend(hang_timeout=50.0)
    await before.close()
    world.go_on("2")
    with pytest.raises(ReloadRefused, match="the model's table was changed meanwhile; ask again"):
        await reloading
    assert before.active.serving is None
    assert not before.is_rolling


async def test_a_reload_whose_own_rollout_ends_with_its_table_is_refused(world: World) -> None:
    world.names("1")
    await world.check()
    world.stop_at("2", "load")
    world.names("2")
    reloading = asyncio.create_task(world.reconciler.reload(dry_run=False, force=False))
    await world.until_at("2", "load")
    before = world.amend(hang_timeout=50.0)
    await before.close()
    with pytest.raises(ReloadRefused, match="the model's table was changed meanwhile; ask again"):
        await reloading


async def test_a_precondition_is_not_reported_of_a_version_that_is_loading(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two looks beside each other would measure the memory that the load itself takes."""
    world.names("1")
    await world.check()
    asked = 0

    async def find(_action: object) -> str | None:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0.01)
        return None if asked == 1 else "1 GiB of memory are available and the last load needed 2 GiB"

    monkeypatch.setattr(world.reconciler, "_find_precondition", find)
    await world.set_out("2", "load")
    await world.reconciler.check()
    assert reported(await world.reading(), "version_drift")[1].endswith("loading version 2")
    assert asked == 1


async def test_a_mismatch_in_a_process_that_was_taken_over_is_noted_without_a_check(world: World) -> None:
    world.names("1")
    await world.check()
    world.load_fails["1"] = LoadFailed("error", "no")  # so that the process of before stays
    before = world.amend(hang_timeout=50.0)
    await before.close()
    await world.check()
    world.hosts[0].report_mismatch()
    await world.until(
        lambda: any((kept.notes or {}).get("batching_mismatch") for kept in world.reconciler._cached.contents)
    )


async def test_a_cache_that_could_not_be_written_is_well_again_after_it_was(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.names("1")
    await world.check()
    monkeypatch.setattr(world.reconciler._cached, "write", broken_thread)
    assert reported(await world.check(), "cache")[0] == "degraded"
    monkeypatch.undo()
    assert reported(await world.check(), "cache")[0] == "healthy"


async def test_a_write_that_hangs_is_not_begun_again_by_each_check(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each would take a thread more."""
    world.names("1")
    await world.check()
    begun, hangs = 0, asyncio.Event()

    async def write(*_: object) -> None:
        nonlocal begun
        begun += 1
        await hangs.wait()

    monkeypatch.setattr(world.reconciler._cached, "write", write)
    monkeypatch.setattr("mlopsd_probes.model.rollout.reconciler.FOR_A_TURN", 0.001)
    for _ in range(3):
        await world.reconciler.check()
    assert begun == 1
