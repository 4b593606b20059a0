"""The processes on a card, and the models among them."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mlopsd.probe import Advice, Status
from mlopsd_probes.gpu.processes import is_alive, is_host_namespace
from tests.gpu.driving import Drive, found, troubles, until, value


async def test_processes_are_listed_only_if_wanted_and_no_more_than_allowed(drive: Drive) -> None:
    lines = [f"gpu 1 process compute {pid} {pid}MiB" for pid in range(100, 110)]
    driven = drive(*lines)
    assert "processes" not in (await driven.check()).facts["gpus"][1]
    driven.table |= {"processes": True, "processes_most": 2}
    await driven.restart()
    reading = await driven.check()
    listed = reading.facts["gpus"][1]["processes"]
    assert listed == [{"pid": 109, "memory_bytes": 109 * 2**20}, {"pid": 108, "memory_bytes": 108 * 2**20}]
    assert value(reading, "processes", gpu=1) == 10


@contextmanager
def program(*words: str) -> Iterator[int]:
    """The pid of a process with *words* in its command line."""
    with subprocess.Popen([sys.executable, "-c", "input()", *words], stdin=subprocess.PIPE) as process:
        try:
            yield process.pid
        finally:
            process.kill()


async def test_trouble_of_a_card_names_the_models_on_it_and_only_trouble_does(drive: Drive) -> None:
    with program("7", "9", "models:/churn/7") as ours, program("-m", "models:/fraud@champion") as theirs:
        tenants = [f"gpu 1 process compute {pid} 1GiB" for pid in (ours, theirs, os.getpid())]
        driven = drive(*tenants)
        reading = await driven.check()
        assert reading.facts["gpus"][1]["models"] == ["models:/churn/7", "models:/fraud@champion"]
        assert "models" not in reading.facts["gpus"][0]
        assert not any("churn" in finding.summary for finding in reading.findings)
        driven.steer(*tenants, "xid 48 gpu 1", "xid 48 gpu 0")
        reading = await until(driven, lambda reported: len(troubles(reported)) == 2)
        reported = found(reading, "xid", "gpu 1").summary
        assert reported.endswith("; models on it: churn version 7, fraud@champion")
        assert "models" not in found(reading, "xid", "gpu 0").summary


@pytest.mark.parametrize(("fault", "name"), [("lost gpu 1", "gpu_answers"), ("gone gpu 1", "gpu_missing")])
async def test_a_card_that_is_no_longer_there_names_the_model_that_was_on_it(
    drive: Drive, fault: str, name: str
) -> None:
    with program("models:/churn/7") as pid:
        tenant = f"gpu 1 process compute {pid} 1GiB"
        driven = drive(tenant)
        await driven.check()
    driven.steer(tenant, fault)  # and the process has ended, as it does
    for _ in range(2):
        reported = found(await driven.check(), name, "gpu 1").summary
        assert reported.endswith("; model on it: churn version 7")


async def test_a_model_that_has_left_a_card_is_not_named(drive: Drive) -> None:
    with program("models:/churn/7") as pid:
        driven = drive(f"gpu 1 process compute {pid} 1GiB")
        await driven.check()
        driven.steer()
        await driven.check()
    driven.steer("lost gpu 1")
    assert "churn" not in found(await driven.check(), "gpu_answers", "gpu 1").summary


@contextmanager
def nested_program(word: str) -> Iterator[int]:
    """The pid of a child of a process with *word* in its command line."""
    inner = "import os; print(os.getpid(), flush=True); input()"
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"
    words = [sys.executable, "-c", outer, word]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())
        process.communicate("\n")


async def test_a_model_is_found_by_a_process_that_descends_from_its_own(drive: Drive) -> None:
    with nested_program("models:/churn/7") as pid:
        driven = drive(f"gpu 0 process compute {pid} 1GiB")
        assert (await driven.check()).facts["gpus"][0]["models"] == ["models:/churn/7"]


async def test_processes_that_may_not_be_listed_are_no_trouble_unless_they_are_wanted(drive: Drive) -> None:
    refused = "error nvmlDeviceGetComputeRunningProcesses* NO_PERMISSION"
    driven = drive(refused)
    assert troubles(await driven.check()) == []
    driven.table |= {"processes": True}
    await driven.restart()
    assert {name for name, *_ in troubles(await driven.check())} == {"processes"}


async def test_memory_of_a_process_that_ended_is_told_at_the_second_check(drive: Drive) -> None:
    with program("job") as pid:
        driven = drive(f"gpu 1 process compute {pid} 1GiB")
        assert found(await driven.check(), "orphaned_memory", "gpu 1").status is Status.HEALTHY
    assert found(await driven.check(), "orphaned_memory", "gpu 1").status is Status.HEALTHY
    held = found(await driven.check(), "orphaned_memory", "gpu 1")
    assert (held.status, held.advice, held.observed) == (Status.DEGRADED, Advice.RESET_GPU, 2**30)
    assert held.summary.endswith(f"still holds 1.07 GB for ended processes (pid {pid})")
    driven.steer()
    assert found(await driven.check(), "orphaned_memory", "gpu 1").status is Status.HEALTHY


async def test_a_pid_that_was_never_alive_here_is_no_orphan(drive: Drive) -> None:
    driven = drive("gpu 1 process compute 4194303 1GiB")
    for _ in range(3):
        assert found(await driven.check(), "orphaned_memory", "gpu 1").status is Status.HEALTHY


async def test_memory_of_processes_that_are_no_model_is_judged_only_with_a_limit(drive: Drive) -> None:
    with program("models:/churn/7") as ours, program("job") as theirs:
        held = [f"gpu 0 process compute {ours} 8GiB", f"gpu 0 process compute {theirs} 2GiB"]
        driven = drive(*held)
        reading = await driven.check()
        assert not any(finding.name == "foreign_memory" for finding in reading.findings)
        assert reading.facts["gpus"][0]["model_memory_bytes"] == {"models:/churn/7": 8 * 2**30}
        driven.table |= {"foreign_memory_degraded": "2GB"}
        await driven.restart()
        judged = found(await driven.check(), "foreign_memory", "gpu 0")
        assert (judged.status, judged.advice) == (Status.DEGRADED, Advice.FREE_RESOURCES)
        assert "processes that are no model hold 2.15 GB: python" in judged.summary
        assert f" (pid {theirs}), at or above 2 GB" in judged.summary
        driven.table |= {"foreign_memory_degraded": "3GB"}
        await driven.restart()
        assert found(await driven.check(), "foreign_memory", "gpu 0").status is Status.HEALTHY


def test_another_pid_namespace_is_seen(tmp_path: Path) -> None:
    (tmp_path / "self/ns").mkdir(parents=True)
    (tmp_path / "self/ns/pid").touch()
    assert not is_host_namespace(tmp_path)
    assert not is_host_namespace(tmp_path / "absent")


def test_a_process_of_another_user_is_alive_and_an_ended_one_is_not() -> None:
    with program("job") as pid:
        assert is_alive(pid)
    assert not is_alive(pid)
    assert is_alive(1)
    assert not is_alive(2**32 - 1)
