"""The decisions about a rollout as a table of snapshots and actions.

Each row covers what the tests of the reconciler reach by real tasks: the first rollout, a moved or deleted
alias, fallbacks, rejections, preconditions, losses, restores, `swap = "replace"`, changed options, expiry,
and a reload with and without force.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from mlopsd_probes.causes import OF_VERSION
from mlopsd_probes.model.cache.contents import CacheContents
from mlopsd_probes.model.options import ModelOptions
from mlopsd_probes.model.rollout.plan import (
    Action,
    Cancel,
    Keep,
    Observed,
    Restore,
    Rollout,
    Start,
    plan,
)
from mlopsd_probes.model.rollout.rejections import Rejection
from mlopsd_probes.model.serving.active_model import ActiveVersion
from mlopsd_probes.model.version import CachedVersion
from mlopsd_probes.registry.options import RegistryOptions
from mlopsd_probes.registry.version import Version
from tests.model.world import DOWN, URI, WELL, version

NOW = datetime(2026, 11, 30, 18, tzinfo=UTC)
LATER, EARLIER = NOW + timedelta(seconds=1), NOW - timedelta(seconds=1)
OPTIONS = ModelOptions(model="iris", registries=(RegistryOptions(uri=URI),))
ONE, TWO, THREE = version("1"), version("2"), version("3")
FALLBACK = version("1", candidate="Production", rank=1)
ELSEWHERE = replace(version("1"), registry="http://second", registry_rank=1)
ON_ITS_WAY = Keep("a rollout is in progress")
SOMETHING_ELSE = Keep("a reload is deciding")
UNWANTED = Keep("no version is wanted")


def cached(one: Version, *, proven: bool = True) -> CachedVersion:
    return CachedVersion(one, f"/models/{one.number}", (), proven=proven)


def serving(one: Version, *, is_outdated: bool = False, age: float = 0) -> ActiveVersion:
    since = NOW - timedelta(seconds=age)
    return ActiveVersion(cached(one), cast("Any", None), since, WELL, NOW, is_outdated)


def rejected(one: Version, until: datetime) -> dict[str, Rejection]:
    return {one.id: Rejection(one, "canary", "NaN", until, 600, OF_VERSION)}


def reload_of(seen: Observed, *, is_answered: bool = True, force: bool = False) -> Observed:
    return seen.for_reload(is_answered=is_answered, force=force)


EMPTY = Observed(NOW, has_asked=True)
WANTED = replace(EMPTY, desired=ONE, named=ONE)
SERVED = replace(WANTED, serving=serving(ONE), cached=CacheContents(cached(ONE)))
MOVED = replace(SERVED, desired=TWO, named=TWO)
RESTARTED = replace(EMPTY, cached=CacheContents(cached(TWO), cached(ONE)))
ROLLING = replace(MOVED, in_progress=Rollout(TWO, TWO))


@dataclass(frozen=True)
class Row:
    """A snapshot and the action that follows; *force* and *options* only where they are not the usual."""

    name: str
    seen: Observed
    action: Action
    force: bool = False
    options: ModelOptions = OPTIONS


ROWS = [
    # the first version
    Row("nothing is known", EMPTY, UNWANTED),
    Row("the first version is named", WANTED, Start(ONE)),
    Row("the first version is being rolled out", replace(WANTED, in_progress=Rollout(ONE, ONE)), ON_ITS_WAY),
    Row("the desired version serves", SERVED, Keep("version 1 serves")),
    Row(
        "a version on disk that never served is rolled out",
        replace(WANTED, cached=CacheContents(others=(cached(ONE, proven=False),))),
        Start(ONE),
    ),
    Row(
        "a current version that was never verified is rolled out",
        replace(WANTED, cached=CacheContents(cached(ONE, proven=False))),
        Start(ONE),
    ),
    # a moved alias
    Row("the alias moved", MOVED, Start(TWO)),
    Row("the rollout of the moved alias is in progress", ROLLING, ON_ITS_WAY),
    Row(
        "the alias moved again during the rollout",
        replace(ROLLING, desired=THREE, named=THREE),
        Cancel("a registry names version 3 now"),
    ),
    Row(
        "the alias moved back during the rollout",
        replace(ROLLING, desired=ONE, named=ONE),
        Cancel("a registry names version 1 now"),
    ),
    Row(
        "the alias was deleted during the rollout",
        replace(ROLLING, desired=None, named=None),
        Cancel("no registry names it any more"),
    ),
    Row(
        "a rollout is cancelled once",
        replace(ROLLING, desired=None, in_progress=Rollout(TWO, TWO, cancelled_because="gone")),
        UNWANTED,
    ),
    Row(
        "a rollout that is being cancelled is waited for",
        replace(ROLLING, desired=THREE, in_progress=Rollout(TWO, TWO, cancelled_because="gone")),
        ON_ITS_WAY,
    ),
    Row(
        "a rollout past the point of no return is not cancelled",
        replace(
            ROLLING,
            desired=THREE,
            named=THREE,
            serving=serving(TWO),
            in_progress=Rollout(TWO, TWO, is_serving=True),
        ),
        ON_ITS_WAY,
    ),
    Row(
        "the version of a later registry does not cancel the rollout of a better named version",
        replace(EMPTY, desired=ELSEWHERE, named=ELSEWHERE, in_progress=Rollout(TWO, TWO)),
        ON_ITS_WAY,
    ),
    Row(
        "a later candidate cancels the rollout of one that is gone",
        replace(EMPTY, desired=FALLBACK, named=FALLBACK, in_progress=Rollout(TWO, TWO)),
        Cancel("a registry names version 1 now"),
    ),
    Row(
        "with hold, a later candidate does not cancel the rollout of a better named version",
        replace(EMPTY, desired=FALLBACK, named=FALLBACK, in_progress=Rollout(TWO, TWO)),
        ON_ITS_WAY,
        options=OPTIONS.model_copy(update={"fallback": "hold"}),
    ),
    Row(
        "a better named version cancels the rollout of a fallback",
        replace(EMPTY, desired=TWO, named=TWO, in_progress=Rollout(FALLBACK, FALLBACK)),
        Cancel("a registry names version 2 now"),
    ),
    Row(
        "the reload of an outdated version that another name leads to is not cancelled",
        replace(WANTED, in_progress=Rollout(FALLBACK, None)),
        ON_ITS_WAY,
    ),
    Row(
        "a version that another name leads to is not cancelled",
        replace(WANTED, in_progress=Rollout(FALLBACK, FALLBACK)),
        ON_ITS_WAY,
    ),
    Row(
        "a forced rollout is not cancelled by the version that was desired before",
        replace(SERVED, desired=TWO, in_progress=Rollout(ONE, TWO)),
        ON_ITS_WAY,
    ),
    Row(
        "the alias of a version that serves was deleted",
        replace(SERVED, desired=None, named=None),
        UNWANTED,
    ),
    # fallbacks
    Row("a fallback serves where nothing else does", replace(EMPTY, desired=FALLBACK), Start(FALLBACK)),
    Row(
        "a fallback does not replace a verified version",
        replace(SERVED, named=version("5", candidate="Production", rank=1)),
        Keep("version 1 serves"),
    ),
    # rejections and waits
    Row(
        "a rejected version waits",
        replace(MOVED, rejected=rejected(TWO, LATER)),
        Keep("version 2 was rejected"),
    ),
    Row(
        "a rejected version is tried again when its wait is over",
        replace(MOVED, rejected=rejected(TWO, NOW)),
        Start(TWO),
    ),
    Row("another version was rejected", replace(MOVED, rejected=rejected(THREE, LATER)), Start(TWO)),
    Row(
        "a registry or disk failed a moment ago",
        replace(MOVED, rollout_at=LATER),
        Keep("the last rollout failed a moment ago"),
    ),
    Row("the wait after a failure is over", replace(MOVED, rollout_at=NOW), Start(TWO)),
    Row(
        "its files broke off a moment ago",
        replace(MOVED, waits={TWO.id: LATER}),
        Keep("the last rollout failed a moment ago"),
    ),
    Row("the wait after its files broke off is over", replace(MOVED, waits={TWO.id: NOW}), Start(TWO)),
    Row("the files of another version broke off", replace(MOVED, waits={THREE.id: LATER}), Start(TWO)),
    Row(
        "the first version is rejected",
        replace(WANTED, rejected=rejected(ONE, LATER)),
        Keep("version 1 was rejected"),
    ),
    # preconditions
    Row(
        "a precondition holds the next version back",
        replace(MOVED, precondition="gpu 2 is unhealthy"),
        Keep("gpu 2 is unhealthy", is_blocked=True),
    ),
    Row(
        "a precondition holds nothing back where nothing serves",
        replace(WANTED, precondition="gpu 2 is unhealthy"),
        Start(ONE),
    ),
    Row(
        "a precondition is no matter where the desired version serves",
        replace(SERVED, precondition="gpu 2 is unhealthy"),
        Keep("version 1 serves"),
    ),
    # starts, losses and restores
    Row("a start restores from disk before a registry answers", RESTARTED, Restore(TWO)),
    Row(
        "a start restores from disk what is desired too",
        replace(RESTARTED, desired=TWO, named=TWO),
        Restore(TWO),
    ),
    Row(
        "a start restores what served although another version is desired",
        replace(RESTARTED, desired=THREE, named=THREE),
        Restore(TWO),
    ),
    Row(
        "the desired version waits for the restore",
        replace(RESTARTED, desired=THREE, restoring=TWO),
        ON_ITS_WAY,
    ),
    Row(
        "the previous version is restored where the current one failed more often",
        replace(RESTARTED, stumbles={TWO.id: 1}),
        Restore(ONE),
    ),
    Row(
        "the current version is restored where both failed as often",
        replace(RESTARTED, stumbles={TWO.id: 1, ONE.id: 1}),
        Restore(TWO),
    ),
    Row("a restore waits after a failure", replace(RESTARTED, restore_at=LATER), UNWANTED),
    Row("a restore is tried again when its wait is over", replace(RESTARTED, restore_at=NOW), Restore(TWO)),
    Row(
        "the desired version is restored and not rolled out while the restore waits",
        replace(RESTARTED, desired=TWO, restore_at=LATER),
        Keep("version 2 is restored from disk"),
    ),
    Row(
        "another version is rolled out while the restore waits",
        replace(RESTARTED, desired=THREE, restore_at=LATER),
        Start(THREE),
    ),
    Row(
        "the waits of a rollout do not delay a restore",
        replace(RESTARTED, desired=THREE, rollout_at=LATER, rejected=rejected(TWO, LATER)),
        Restore(TWO),
    ),
    Row(
        "a lost host is restored beside a rollout",
        replace(ROLLING, serving=None),
        Restore(ONE),
    ),
    Row(
        "a version that is being rolled out is not restored too",
        replace(ROLLING, serving=None, cached=CacheContents(cached(TWO))),
        ON_ITS_WAY,
    ),
    Row("a version is restored once", replace(ROLLING, serving=None, restoring=ONE), ON_ITS_WAY),
    Row(
        "a version that was set aside is not restored",
        replace(ROLLING, serving=None, has_set_aside=True),
        ON_ITS_WAY,
    ),
    Row(
        "a corrupt version is off the disk and rolled out again",
        replace(WANTED, restore_at=LATER),
        Start(ONE),
    ),
    Row(
        "an obsolete rollout is cancelled before what served is restored",
        replace(ROLLING, serving=None, desired=THREE),
        Cancel("a registry names version 3 now"),
    ),
    # changed options and expiry
    Row(
        "the version in service is outdated",
        replace(SERVED, serving=serving(ONE, is_outdated=True)),
        Start(ONE),
    ),
    Row(
        "an outdated version is loaded again without a registry",
        replace(SERVED, desired=None, named=None, serving=serving(ONE, is_outdated=True)),
        Start(ONE),
    ),
    Row(
        "an outdated version waits until the registries had their time",
        replace(SERVED, desired=None, serving=serving(ONE, is_outdated=True), has_asked=False),
        UNWANTED,
    ),
    Row(
        "an outdated version gives way to the desired one",
        replace(MOVED, serving=serving(ONE, is_outdated=True)),
        Start(TWO),
    ),
    Row(
        "a registry that answers cancels the reload of an outdated version",
        replace(MOVED, serving=serving(ONE, is_outdated=True), in_progress=Rollout(ONE, None)),
        Cancel("a registry names version 2 now"),
    ),
    Row(
        "an outdated version that no registry names is loaded all the same",
        replace(SERVED, desired=None, serving=serving(ONE, is_outdated=True), in_progress=Rollout(ONE, None)),
        ON_ITS_WAY,
    ),
    Row(
        "a version that fails by the changed options waits",
        replace(SERVED, serving=serving(ONE, is_outdated=True), rejected=rejected(ONE, LATER)),
        Keep("version 1 was rejected"),
    ),
    Row(
        "an expired version keeps serving",
        replace(SERVED, serving=serving(ONE, age=3601)),
        Keep("version 1 serves"),
    ),
    Row(
        "an expired version is loaded again where that is configured",
        replace(SERVED, serving=serving(ONE, age=61)),
        Start(ONE),
        options=OPTIONS.model_copy(update={"on_expiry": "reload", "cache_ttl": 60.0}),
    ),
    Row(
        "a version that has not expired is not loaded again",
        replace(SERVED, serving=serving(ONE, age=60)),
        Keep("version 1 serves"),
        options=OPTIONS.model_copy(update={"on_expiry": "reload", "cache_ttl": 60.0}),
    ),
    # reloads
    Row("a reload decides and nothing else may start", replace(MOVED, is_held=True), SOMETHING_ELSE),
    Row("a reload holds no restore", replace(RESTARTED, is_held=True), Restore(TWO)),
    Row("a reload goes to the desired version", reload_of(replace(MOVED, is_held=True)), Start(TWO)),
    Row(
        "a reload passes a rejection and a wait",
        reload_of(replace(MOVED, rejected=rejected(TWO, LATER), rollout_at=LATER, waits={TWO.id: LATER})),
        Start(TWO),
    ),
    Row("a reload of what serves does nothing", reload_of(SERVED), Keep("version 1 serves")),
    Row(
        "a reload verifies an expired version and does not load it again",
        reload_of(replace(SERVED, serving=serving(ONE, age=61))),
        Keep("version 1 serves"),
        options=OPTIONS.model_copy(update={"on_expiry": "reload", "cache_ttl": 60.0}),
    ),
    Row(
        "a forced reload of what serves loads it again", reload_of(SERVED, force=True), Start(ONE), force=True
    ),
    Row(
        "a reload loads an outdated version again",
        reload_of(replace(SERVED, serving=serving(ONE, is_outdated=True))),
        Start(ONE),
    ),
    Row(
        "a precondition holds a reload back",
        reload_of(replace(MOVED, precondition="gpu 2 is unhealthy")),
        Keep("gpu 2 is unhealthy", is_blocked=True),
    ),
    Row(
        "a precondition holds a reload back where nothing serves",
        reload_of(replace(WANTED, precondition="gpu 2 is unhealthy")),
        Keep("gpu 2 is unhealthy", is_blocked=True),
    ),
    Row(
        "force passes a precondition",
        reload_of(replace(MOVED, precondition="gpu 2 is unhealthy"), force=True),
        Start(TWO),
        force=True,
    ),
    Row("a reload without an answer does nothing", reload_of(MOVED, is_answered=False), UNWANTED),
    Row(
        "a forced reload without an answer loads what serves",
        reload_of(MOVED, is_answered=False, force=True),
        Start(ONE),
        force=True,
    ),
    Row(
        "a reload of an outdated version needs an answer",
        reload_of(replace(SERVED, desired=None, serving=serving(ONE, is_outdated=True)), is_answered=False),
        UNWANTED,
    ),
    Row(
        "a reload where nothing serves goes to what was named last",
        reload_of(replace(RESTARTED, desired=THREE), is_answered=False),
        Start(THREE),
    ),
    Row(
        "a reload where nothing serves or is named goes to what is on disk",
        reload_of(replace(RESTARTED, restore_at=LATER), is_answered=False),
        Start(TWO),
    ),
    Row("a reload without any version does nothing", reload_of(EMPTY, is_answered=False), UNWANTED),
    Row("a reload waits for what is on its way", reload_of(ROLLING), ON_ITS_WAY),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_plan(row: Row) -> None:
    assert plan(row.seen, row.options, force=row.force) == row.action


def test_a_fallback_that_is_held_back_is_known() -> None:
    assert replace(SERVED, named=FALLBACK).held_back == FALLBACK
    assert SERVED.held_back is None
    assert EMPTY.held_back is None


def test_callers_see_a_rejection_before_a_loss_and_of_a_loss_before_a_complaint() -> None:
    complaining = replace(EMPTY, complaints=(DOWN,))
    lost = replace(complaining, lost="version 1 is lost")
    assert EMPTY.why_none == "nothing was found yet"
    assert complaining.why_none == f"{URI}: connection refused"
    assert lost.why_none == "version 1 is lost"
    assert replace(lost, rejected=rejected(TWO, LATER)).why_none == "version 2 was rejected (canary)"


def test_the_next_due_time_is_the_soonest_that_is_not_over() -> None:
    assert EMPTY.seconds_to_wait is None
    waiting = replace(MOVED, rollout_at=NOW + timedelta(seconds=5), restore_at=EARLIER)
    assert waiting.seconds_to_wait == 5
    assert replace(waiting, rejected=rejected(TWO, LATER)).seconds_to_wait == 1
    assert replace(waiting, restore_at=NOW + timedelta(seconds=2)).seconds_to_wait == 2
    assert replace(waiting, waits={TWO.id: NOW + timedelta(seconds=3)}).seconds_to_wait == 3
