"""The advice about a check that failed: it may pass the first time, and is an act if it lasts."""

import pytest

from mlopsd.failures import CheckTimeout, Failures, Stuck
from mlopsd.probe import Advice, Finding, Isolation, ProbeError, Status
from mlopsd.worker.worker import UNKILLABLE, InvalidReading, ProbeRaised, WorkerDied
from tests.fakes import Clock

CLOCK_STEP = 15.0


def findings(error: Exception, isolation: Isolation = "thread", times: int = 3) -> list[Finding]:
    clock = Clock()
    failures, found = Failures("door", isolation, clock), []
    for _ in range(times):
        (finding,) = failures.of_check(error)[1].findings
        found.append(finding)
        clock.now += CLOCK_STEP
    return found


@pytest.mark.parametrize(
    ("error", "isolation", "advice"),
    [
        (CheckTimeout("no answer within 5 s"), "process", Advice.FIX_CONFIG),
        (Stuck("cannot be asked: its last call has not returned"), "thread", Advice.RESTART_APP),
        (
            Stuck("cannot be asked: its process 7 gave no answer and is being ended"),
            "process",
            Advice.FIX_CONFIG,
        ),
        (Stuck(f"cannot be asked: its process 7 was killed; it is {UNKILLABLE}"), "process", Advice.REBOOT),
        (WorkerDied("its process was killed by SIGSEGV"), "process", Advice.FIX_CONFIG),
        (WorkerDied("its process was killed by SIGKILL"), "process", Advice.FREE_RESOURCES),
        (ProbeError("cannot see the door: no light; bring a lamp"), "thread", Advice.FIX_CONFIG),
        (InvalidReading("check() returned 3"), "thread", Advice.FIX_CONFIG),
        (ProbeRaised("KeyError", "'x'", ""), "thread", Advice.FIX_CONFIG),
        (KeyError("x"), "thread", Advice.FIX_CONFIG),
    ],
)
def test_a_failure_says_watch_once_and_then_names_an_act(
    error: Exception, isolation: Isolation, advice: Advice
) -> None:
    first, second, third = findings(error, isolation)
    assert [one.status for one in (first, second, third)] == [Status.UNKNOWN] * 3
    assert len({one.name for one in (first, second, third)}) == 1, "it is one finding, with one since"
    assert [one.advice for one in (first, second, third)] == [Advice.WATCH, advice, advice]
    assert second.summary.startswith(f"{first.summary} (for 15 s, 2 checks)")
    assert third.summary.startswith(f"{first.summary} (for 30 s, 3 checks)")


def test_a_check_that_succeeds_between_makes_the_next_failure_the_first() -> None:
    failures = Failures("door")
    for _ in range(2):
        failures.of_check(KeyError("x"))
    failures.are_over()
    (finding,) = failures.of_check(KeyError("x"))[1].findings
    assert finding.advice is Advice.WATCH
