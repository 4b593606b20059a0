"""The daemon under faults keeps its promises; and the observer is one that can see a broken one."""

import asyncio
import itertools
import json
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chaos.census import Census, leaks
from chaos.faults import FAULTS
from chaos.memory import LIMIT, MOUNT, Squeeze
from chaos.observer import Observer
from chaos.schedule import turns
from chaos.shapes import Shapes
from chaos.stage import PROBES
from chaos.timeline import Timeline
from chaos.traffic import CallerAnswer, CallerTraffic

ROOT = Path(__file__).parent.parent.parent
SEED, MINUTES = "15", "2"


@pytest.mark.needs("gcc")
@pytest.mark.timeout(580)
def test_two_minutes_of_faults_break_no_promise() -> None:
    command = [sys.executable, "-m", "chaos", "--minutes", MINUTES, "--seed", SEED]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as run:
        try:
            output, _ = run.communicate(timeout=560)
        except BaseException:
            run.send_signal(signal.SIGTERM)
            raise
    assert run.returncode == 0, output
    assert f"seed {SEED}: no violation" in output
    compared = re.search(r"(\d+) of them under a fault that must show", output)
    assert compared is not None
    assert int(compared[1]) > 0, output


@pytest.mark.timeout(300)
def test_a_short_soak_leaves_the_daemon_as_it_was() -> None:
    command = [sys.executable, "-m", "chaos.soak", "--checks", "1500", "--requests", "20000"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "flat, and every request answered with 200" in done.stdout


def test_a_seed_always_gives_the_same_order_and_every_fault_has_its_turn() -> None:
    first, again, other = (list(itertools.islice(turns(seed, FAULTS), 24)) for seed in (1, 1, 2))
    assert first == again != other
    assert {fault for turn in first for fault in turn.faults} == set(FAULTS)
    for turn in first:
        touched = [touch for fault in turn.faults for touch in fault.touches]
        assert len(touched) == len(set(touched)), turn


class Watched:
    """An observer that is shown documents by hand."""

    def __init__(self) -> None:
        self.timeline = Timeline(loud=False)
        traffic = CallerTraffic(0, Shapes({"paths": {}}), self.timeline, lambda: frozenset({2.0}))
        self.traffic = traffic
        self.observer = Observer(traffic, self.timeline, PROBES)

    def sees(self, at: float = 1e9, **changes: Any) -> list[str]:
        """The violations once the gpu's reading has *changes*."""
        well = {"status": "healthy", "summary": "", "age_seconds": 0.1, "facts": {}}
        readings = {name: {"probe": name, **well} for name in PROBES}
        readings["gpu"] |= changes
        document = {"status": "healthy", "probes": readings}
        self.observer.look(json.dumps(document).encode(), at, at)
        return [violation.partition(":")[0] for violation in self.timeline.violations]


def test_a_healthy_reading_under_a_fault_is_seen_and_one_without_is_none() -> None:
    watched = Watched()
    assert watched.sees() == []
    truth = watched.observer.must_show("gpu", "gpu-lost", lambda: True)
    assert watched.sees(at=truth.since - 0.1) == [], "it may take an interval and a timeout"
    assert watched.sees() == ["no false healthy"]
    watched.observer.over(truth)
    assert watched.sees() == ["no false healthy"]


def test_a_healthy_verdict_over_a_probe_with_a_finding_is_seen() -> None:
    watched = Watched()
    watched.observer.must_show("gpu", "gpu-lost", lambda: True)
    assert watched.sees(status="unhealthy") == ["no false healthy"]


@pytest.mark.parametrize(
    ("age", "rule"), [(7.7, ["no false healthy"]), (-3600.0, ["ages are steady"]), (7.4, [])]
)
def test_a_reading_that_is_too_old_or_from_the_future_is_seen(age: float, rule: list[str]) -> None:
    assert Watched().sees(age_seconds=age) == rule


@pytest.mark.parametrize(
    ("status", "body", "rule"),
    [
        (200, {"predictions": [2.0, 4.0]}, []),
        (200, {"predictions": [3.0, 6.0]}, ["right values"]),
        (503, {}, ["predictions go on"]),
    ],
)
def test_a_prediction_that_is_wrong_or_not_given_is_seen(status: int, body: Any, rule: list[str]) -> None:
    watched = Watched()
    reported = CallerAnswer(status, json.dumps(body).encode(), 1.0, 2.0)
    watched.traffic.judge_prediction(reported, 1.0, frozenset({2.0}))
    assert [violation.partition(":")[0] for violation in watched.timeline.violations] == rule


def test_a_prediction_that_is_not_given_is_excused_while_its_host_was_hit_and_not_after() -> None:
    watched = Watched()
    watched.timeline.open("host")
    now = CallerAnswer(503, b"{}", 1e9, 1e9)
    watched.traffic.judge_prediction(now, 1.0, frozenset({2.0}))
    assert watched.timeline.violations == []
    watched.timeline.close("host")
    watched.traffic.judge_prediction(now, 1.0, frozenset({2.0}))
    assert len(watched.timeline.violations) == 1


def test_an_answer_of_another_shape_or_with_a_traceback_is_seen() -> None:
    schema = {"type": "object", "required": ["status"]}
    answers = {"200": {"content": {"application/json": {"schema": schema}}}}
    shapes = Shapes({"paths": {"/health/{probe}": {"get": {"responses": answers}}}, "components": {}})
    ask = "GET", "/health/gpu"
    assert shapes.fault(*ask, 200, b'{"status": "healthy"}') is None
    assert shapes.fault(*ask, 200, b"{}") == "'status' is a required property at []"
    assert "no JSON" in str(shapes.fault(*ask, 200, b"<html>"))
    assert "not promised" in str(shapes.fault(*ask, 500, b"{}"))
    assert "traceback" in str(shapes.fault(*ask, 200, b'{"status": "Traceback (most recent call last):"}'))


@pytest.fixture
def sleepers() -> Iterator[list[int]]:
    """The pids of two processes that do nothing."""
    processes = [subprocess.Popen(["sleep", "60"]) for _ in range(2)]
    yield [process.pid for process in processes]
    for process in processes:
        process.kill()
        process.wait()


def test_two_processes_that_are_starved_at_a_time_have_a_limit_each(sleepers: list[int]) -> None:
    sizes = [2**30, 2**29]
    squeezes = [Squeeze(pid, size) for pid, size in zip(sleepers, sizes, strict=True)]
    assert [limit_of(pid) for pid in sleepers] == sizes
    for pid, squeeze in zip(sleepers, squeezes, strict=True):
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        asyncio.run(squeeze.end())


def limit_of(pid: int) -> int:
    """Bytes that *pid* may have, by its control group if it has one of ours, else by RLIMIT_AS."""
    groups = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    ours = [line.partition(":memory:")[2] for line in groups if "mlopsd-chaos-" in line]
    if not ours:
        return resource.prlimit(pid, resource.RLIMIT_AS)[0]
    return int((MOUNT / ours[0].lstrip("/") / LIMIT).read_text())


def test_a_leak_is_seen() -> None:
    more = Census(descriptors=8, threads=4, children=0, rss=30 * 2**20)
    first = Census(20, 7, 4, 60 * 2**20)
    assert list(leaks(first, Census(28, 11, 4, 90 * 2**20), more)) == []
    assert list(leaks(first, Census(29, 7, 5, 60 * 2**20), more)) == [
        "descriptors grew from 20 to 29",
        "children grew from 4 to 5",
    ]
