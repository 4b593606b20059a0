"""The log of changes: a line for each finding that appears, worsens, improves or ends, and no flood."""

import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mlopsd.board import Board
from mlopsd.daemon.transitions import (
    MOST_CHANGES,
    MOST_FINDINGS,
    MOST_LINES,
    MOST_LINES_OF_PROBE,
    WINDOW,
    Transitions,
)
from mlopsd.entry import Terms
from mlopsd.probe import Advice, Finding, Reading, Status
from tests.fakes import Clock

H, D, N, U = Status.HEALTHY, Status.DEGRADED, Status.UNKNOWN, Status.UNHEALTHY


class Night:
    """One probe, its readings, and the lines that they leave."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self.clock = Clock()
        self.all_lines: list[str] = []  # of `read`
        self.transitions = Transitions(self.clock)
        self.board = Board(
            on_change=self.transitions.recorded,
            on_verdict=self.transitions.verdict_changed,
            clock=self.clock,
        )
        self.board.enrol("gpu", "gpu", Terms(10, 5))
        self._caplog = caplog
        caplog.set_level(logging.DEBUG, "mlopsd.daemon")

    def read(self, *findings: Finding, after: float = 10) -> list[str]:
        """Return the lines that a reading leaves, but for those about the probe and the host."""
        lines = self.lines(*findings, after=after)
        found = [line for line in lines if not line.startswith(("probe", "health"))]
        self.all_lines += found
        return found

    def lines(self, *findings: Finding, after: float = 10) -> list[str]:
        self._caplog.clear()
        self.clock.now += after
        self.board.record("gpu", Reading(findings or [finding(H, name="ok")]), 0.1)
        return [line_of(record.__dict__) for record in self._caplog.records]


def line_of(record: dict[str, Any]) -> str:
    names = ("finding", "subject", "before", "status", "advice", "changes", "count", "seconds")
    fields = [str(record[name]) for name in names if name in record]
    return " ".join([record["msg"], *fields])


def finding(
    status: Status, subject: str | None = None, name: str = "xid", advice: Advice = Advice.REBOOT
) -> Finding:
    return Finding(name, status, "a card", subject=subject, advice=advice)


@pytest.fixture
async def night(caplog: pytest.LogCaptureFixture) -> AsyncIterator[Night]:
    night = Night(caplog)
    yield night
    night.board.close()


async def test_a_first_reading_that_is_healthy_is_one_line_about_the_probe(night: Night) -> None:
    assert night.lines() == ["probe status changed unknown healthy", "health changed unknown healthy none"]


@pytest.mark.parametrize("status", [D, N, U])
async def test_a_first_reading_that_is_not_healthy_is_logged(night: Night, status: Status) -> None:
    first = night.lines(finding(status))
    assert first[:2] == [f"finding appeared xid {status} reboot", f"probe status changed unknown {status}"]
    assert night.lines(finding(status)) == []


async def test_each_change_of_a_finding_is_one_line(night: Night) -> None:
    night.read()
    assert night.read(finding(D, "gpu 3")) == ["finding appeared xid gpu 3 degraded reboot"]
    assert night.read(finding(D, "gpu 3")) == []
    assert night.read(finding(U, "gpu 3")) == ["finding worsened xid gpu 3 degraded unhealthy reboot"]
    assert night.read(finding(D, "gpu 3")) == ["finding improved xid gpu 3 unhealthy degraded reboot"]
    other = finding(D, "gpu 3", advice=Advice.RESET_GPU)
    assert night.read(other) == ["advice changed xid gpu 3 degraded degraded reset_gpu"]
    assert night.read() == ["finding ended xid gpu 3 50"]
    assert night.read() == []


async def test_a_second_fault_in_an_unhealthy_probe_is_a_line(night: Night) -> None:
    one, two = finding(U, "gpu 1"), finding(U, "gpu 2")
    night.read(one)
    assert night.lines(one, two) == ["finding appeared xid gpu 2 unhealthy reboot"]
    assert night.lines(two) == ["finding ended xid gpu 1 20"]


async def test_a_reading_that_cannot_tell_ends_nothing(night: Night) -> None:
    night.read(finding(D, "gpu 1"))
    assert night.read(finding(N, name="timeout")) == ["finding appeared timeout unknown reboot"]
    assert night.read(finding(D, "gpu 1")) == ["finding ended timeout 10"]
    assert night.read() == ["finding ended xid gpu 1 30"]


async def test_an_unknown_card_says_nothing_about_another_one(night: Night) -> None:
    night.read(finding(D, "gpu 1"), finding(D, "gpu 2"))
    assert night.read(finding(N, "gpu 1", name="answers"), finding(H, "gpu 2", name="memory")) == [
        "finding appeared answers gpu 1 unknown reboot",
        "finding ended xid gpu 2 10",
    ]


async def test_the_host_has_a_line_when_its_advice_changes(night: Night) -> None:
    night.read(finding(U))
    lines = night.lines(finding(U, advice=Advice.REPLACE_HARDWARE))
    assert lines == [
        "advice changed xid unhealthy unhealthy replace_hardware",
        "health changed unhealthy unhealthy replace_hardware",
    ]


async def test_a_finding_that_flaps_is_quiet_until_it_is_steady(night: Night) -> None:
    states: list[tuple[Finding, ...]] = [(finding(D, "gpu 1"),), ()]
    lines = [night.read(*states[number % 2]) for number in range(50)]
    assert [len(some) for some in lines] == [1] * MOST_CHANGES + [0] * (50 - MOST_CHANGES)
    assert lines[MOST_CHANGES - 1] == [f"finding flaps xid gpu 1 {MOST_CHANGES} 50"]
    assert night.read(finding(D, "gpu 1")) == []
    assert night.read(finding(D, "gpu 2"), finding(D, "gpu 1")) == [
        "finding appeared xid gpu 2 degraded reboot"
    ], "damped per finding"
    assert night.read(finding(D, "gpu 2"), finding(D, "gpu 1"), after=WINDOW) == [
        "finding appeared xid gpu 1 degraded reboot"
    ], "its state now, which differs from the last line"
    assert night.read(finding(D, "gpu 2")) == ["finding ended xid gpu 1 620"]


async def test_slow_changes_do_not_flap(night: Night) -> None:
    states: list[tuple[Finding, ...]] = [(finding(D),), ()]
    lines = [night.read(*states[number % 2], after=WINDOW / 5 + 1) for number in range(20)]
    assert [len(some) for some in lines] == [1] * 20


async def test_a_reading_with_many_changes_is_some_lines_and_a_count(night: Night) -> None:
    lines = night.read(*(finding(D, f"gpu {number}") for number in range(MOST_LINES + 7)))
    assert len(lines) == MOST_LINES + 1
    assert lines[-1] == "more findings changed 7"


async def test_new_subjects_at_each_reading_are_no_flood_and_take_no_memory(night: Night) -> None:
    lines: list[str] = []
    for number in range(60):
        lines += night.read(*(finding(D, f"pod {number} {one}") for one in range(MOST_FINDINGS)), after=1)
    assert len(lines) == MOST_LINES_OF_PROBE, "within one window"
    assert len(night.transitions._findings["gpu"].known) == MOST_FINDINGS
    night.read(*[finding(D, "pod")] * MOST_FINDINGS, after=WINDOW)
    assert night.read(finding(U, "gpu 1"))[0] == "finding appeared xid gpu 1 unhealthy reboot"
    counted = [line for line in night.all_lines if line.startswith("more findings changed")]
    ended = [line for line in night.all_lines if line.startswith("finding ended")]
    appeared = len(night.all_lines) - len(counted) - len(ended)
    assert len(ended) <= appeared, "the log has no end of a finding that it never had"
    assert appeared + sum(int(line.split()[-1]) for line in counted) >= 60 * MOST_FINDINGS + 2


async def test_ended_findings_leave_room_for_new_ones(night: Night) -> None:
    night.read(*(finding(D, f"pod {number}") for number in range(MOST_FINDINGS)))
    first = night.read(finding(D, "gpu 1"), after=60)[0]
    assert first == "finding appeared xid gpu 1 degraded reboot", "before the ends"
    assert night.read(finding(U, "gpu 1")) == ["finding worsened xid gpu 1 degraded unhealthy reboot"]
    assert night.read(finding(U, "gpu 2"))[0] == "finding appeared xid gpu 2 unhealthy reboot"


async def test_a_new_subject_for_the_probe_starts_over(night: Night) -> None:
    night.read(finding(U))
    night.board.enrol("gpu", "gpu", Terms(10, 5))
    assert night.read() == []
