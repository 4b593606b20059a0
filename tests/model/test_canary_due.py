"""When the version in service makes its canary prediction: at each check, unless something else proves it."""

import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mlopsd.probe import Status
from mlopsd_probes.model.options import CanaryOptions
from tests.model.served import Served, answered
from tests.model.world import World, failing, reported

X = {"x": "double"}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    world.names("1")
    await world.check()
    yield world
    await world.reconciler.close()


async def canaries_of(world: World, checks: int = 1) -> int:
    """The canaries of the version in service during so many checks."""
    before = world.hosts[-1].canaries
    for _ in range(checks):
        await world.reconciler.check()
        await world.settle()
    return world.hosts[-1].canaries - before


async def test_without_anything_else_there_is_one_at_each_check(world: World) -> None:
    assert await canaries_of(world, 3) == 3


async def test_an_answer_to_a_caller_that_passes_its_rules_saves_one(world: World) -> None:
    world.hosts[-1].has_proof = True
    assert await canaries_of(world) == 0
    assert reported(await world.reading(), "canary") == (
        "healthy",
        "version 1 answered callers since the last check, which its canary's rules accept",
    )
    assert await canaries_of(world) == 1


async def test_an_answer_to_a_caller_counts_as_long_as_a_canary(tmp_path: Path) -> None:
    world = World(tmp_path, cache_ttl=100)
    world.names("1")
    await world.check()
    for _ in range(3):
        world.wait(60)
        world.hosts[-1].has_proof = True
        assert await canaries_of(world) == 0
    serving = world.reconciler.active.serving
    assert serving is not None
    assert serving.proven_at == world.started + world.passed
    await world.reconciler.close()


async def test_a_canary_that_failed_is_repeated_although_callers_get_answers(world: World) -> None:
    world.hosts[-1].next_canary = failing("NaN in 2 of 2 rows")
    await canaries_of(world)
    world.hosts[-1].has_proof = True
    assert await canaries_of(world) == 1
    assert (await world.reading()).status is Status.UNHEALTHY


async def test_a_golden_answer_is_compared_although_callers_get_answers(tmp_path: Path) -> None:
    world = World(tmp_path, canary=CanaryOptions(expect=tmp_path / "expect.json"))
    world.names("1")
    await world.check()
    world.hosts[-1].has_proof = True
    assert await canaries_of(world) == 1
    await world.reconciler.close()


async def test_between_two_canaries_is_at_least_the_interval(tmp_path: Path) -> None:
    world = World(tmp_path, canary=CanaryOptions(interval=90))
    world.names("1")
    await world.check()
    assert await canaries_of(world, 3) == 0
    world.wait(89)
    assert await canaries_of(world) == 0
    world.wait(2)
    assert await canaries_of(world, 2) == 1
    await world.reconciler.close()


async def test_a_reload_runs_one_whatever_callers_got(world: World) -> None:
    world.hosts[-1].has_proof = True
    before = world.hosts[-1].canaries
    assert "it passed its canary again" in await world.reconciler.reload(dry_run=False, force=False)
    assert world.hosts[-1].canaries == before + 1


def proofs(tmp_path: Path, rule: Any, values: list[float], **options: Any) -> list[bool]:
    """Whether each of so many answers has proof, one second after the other."""
    ours, theirs = socket.socketpair()
    served = Served(theirs, tmp_path, rule, X, batching="off", **options)
    found = []
    for value in values:
        served._serving._proof._next = 0.0
        header = {"id": 1, "do": "predict", "type": "application/json", "until": float("inf")}
        (((answer, _),),) = answered(served._serving, [(header, served.rows([value]))])
        found.append(answer.get("proof", False))
    ours.close()
    theirs.close()
    return found


def test_an_answer_has_proof_only_if_the_rules_of_the_canary_accept_it(tmp_path: Path) -> None:
    def rule(data: Any) -> list[float]:
        return list(data["x"])

    assert proofs(tmp_path, rule, [1.0, float("nan"), 99.0], max=50.0) == [True, False, False]


def test_not_each_answer_is_judged(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    served = Served(theirs, tmp_path, lambda data: list(data["x"]), X, batching="off")
    header = {"id": 1, "do": "predict", "type": "application/json", "until": float("inf")}
    frames = [(header, served.rows([1.0]))] * 20
    found = [
        answer.get("proof", False) for answers in answered(served._serving, frames) for answer, _ in answers
    ]
    assert found[0]
    assert sum(found) < 20
    ours.close()
    theirs.close()
