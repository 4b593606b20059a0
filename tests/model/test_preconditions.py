"""The preconditions of a rollout."""

from dataclasses import replace
from typing import Literal

import psutil
import pytest

from mlopsd.board import Board, Readings
from mlopsd.entry import Terms
from mlopsd.probe import Finding, Reading, Status
from mlopsd_probes.cgroup import MemoryUse
from mlopsd_probes.model.options import ModelOptions
from mlopsd_probes.model.rollout import preconditions
from mlopsd_probes.model.rollout.preconditions import (
    available_memory,
    broken_gpu,
    find_precondition,
    too_little_gpu_memory,
    too_little_memory,
)
from mlopsd_probes.model.version import CachedVersion
from mlopsd_probes.registry.options import RegistryOptions
from mlopsd_probes.registry.version import Version

LOST = Reading([Finding("lost", Status.UNHEALTHY, "GPU 2 fell off the bus", "gpu 2")])
HOT = Reading([Finding("temperature", Status.DEGRADED, "GPU 2 is hot", "gpu 2")])


def test_an_unhealthy_gpu_is_in_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert broken_gpu({"gpu": LOST}, "gpu") == "gpu 2 is unhealthy: GPU 2 fell off the bus"
    assert broken_gpu({"gpu": HOT}, "gpu") is None
    assert broken_gpu({}, "gpu") is None


@pytest.mark.parametrize(("visible", "is_in_the_way"), [("0,1", False), ("2", True), ("GPU-4f1c", True)])
def test_a_gpu_that_the_model_does_not_see_is_not(
    monkeypatch: pytest.MonkeyPatch, visible: str, *, is_in_the_way: bool
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert (broken_gpu({"gpu": LOST}, "gpu") is not None) == is_in_the_way


def test_memory_is_held_against_what_the_last_load_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preconditions, "available_memory", lambda: 3 * 10**9)
    assert too_little_memory(2 * 10**9) is None
    assert too_little_memory(4 * 10**9) == "3 GB of memory are available and the last load needed 4 GB"
    assert too_little_memory(4 * 10**9, given_back=10**9) is None
    assert too_little_memory(None) is None


def test_the_memory_of_this_host_can_be_read() -> None:
    available = available_memory()
    assert available is not None
    assert 0 < available < psutil.virtual_memory().total


def test_the_limit_of_the_control_group_bounds_the_memory_of_a_rollout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(preconditions, "tightest_memory", lambda: MemoryUse(used=3 * 10**6, limit=5 * 10**6))
    assert available_memory() == 2 * 10**6
    assert too_little_memory(10**7) == "2 MB of memory are available and the last load needed 10 MB"


def gpus(*free: int, held: int = 0) -> dict[str, Reading]:
    lines = [
        {"index": index, "uuid": f"GPU-{index}", "memory_free_bytes": size}
        | ({"model_memory_bytes": {"models:/wine/7": held}} if held else {})
        for index, size in enumerate(free)
    ]
    return {"gpu": Reading(facts={"gpus": lines})}


def cached(number: str, **notes: object) -> CachedVersion:
    return CachedVersion(Version(number, "@champion", "sqlite:///x", "s3://b"), "/srv", (), notes=notes)


def test_a_gpu_with_too_little_free_memory_holds_back_what_once_needed_more() -> None:
    needed = {"GPU-1": 10 * 10**9}
    assert too_little_gpu_memory(gpus(10**9, 20 * 10**9), "gpu", needed, {}) is None
    words = "gpu 1 has 4 GB free and the model once needed 10 GB there"
    assert too_little_gpu_memory(gpus(10**9, 4 * 10**9), "gpu", needed, {}) == words
    assert too_little_gpu_memory(gpus(10**9, 4 * 10**9), "gpu", needed, {"GPU-1": 6 * 10**9}) is None
    assert too_little_gpu_memory({}, "gpu", needed, {}) is None
    assert too_little_gpu_memory({"gpu": Reading(facts={"gpus": [{}]})}, "gpu", needed, {}) is None


@pytest.mark.parametrize(("swap", "is_held_back"), [("beside", True), ("replace", False)])
def test_the_old_versions_gpu_memory_is_free_for_the_new_only_if_it_goes_first(
    swap: Literal["beside", "replace"], *, is_held_back: bool
) -> None:
    options = ModelOptions(model="wine", registries=(RegistryOptions(uri="sqlite:///x"),), swap=swap)
    before = cached("7", gpu_bytes={"GPU-0": 8 * 10**9})
    found = find_precondition(gpus(2 * 10**9, held=8 * 10**9), options, None, before)
    assert (found is not None) == is_held_back


async def test_a_gpu_that_was_lost_before_its_driver_hung_is_still_in_the_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    board = Board()
    board.enrol("gpu", "gpu", Terms(15, 10))
    board.record("gpu", Reading([replace(LOST.findings[0], lasting=True)]), 0.1)
    board.record("gpu", Reading([Finding("timeout", Status.UNKNOWN, "no answer within 10 s")]), 10)
    assert "gpu 2 is unhealthy: GPU 2 fell off the bus" in (broken_gpu(Readings(board), "gpu") or "")
    board.close()
