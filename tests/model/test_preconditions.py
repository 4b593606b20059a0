"""The preconditions of a rollout."""

from dataclasses import replace

import psutil
import pytest

from mlopsd.board import Board, Readings
from mlopsd.entry import Terms
from mlopsd.probe import Finding, Reading, Status
from mlopsd_probes.cgroup import MemoryUse
from mlopsd_probes.model.rollout import preconditions
from mlopsd_probes.model.rollout.preconditions import available_memory, broken_gpu, too_little_memory

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
