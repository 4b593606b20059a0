"""Rejected versions and waits: remembered until the registry wants another, tried again ever more rarely."""

from datetime import UTC, datetime, timedelta

import pytest

from mlopsd.process.backoff import ExponentialBackoff
from mlopsd_probes.causes import OF_VERSION, cause_of
from mlopsd_probes.model.rollout.rejections import Rejections
from mlopsd_probes.registry.version import Version

SEVEN = Version("7", "@champion", "http://registry", "runs:/1/model")
EIGHT = Version("8", "@champion", "http://registry", "runs:/2/model")


class Day:
    def __init__(self) -> None:
        self.moment = datetime(2026, 11, 23, tzinfo=UTC)
        self.seconds = 0.0

    def now(self) -> datetime:
        return self.moment

    def clock(self) -> float:
        return self.seconds


def test_a_rejected_version_is_held_until_its_time_and_then_twice_as_long() -> None:
    day = Day()
    rejections = Rejections(600, day.now)
    rejection = rejections.add(SEVEN, "canary", "NaN in its output", OF_VERSION)
    assert rejections.by_id() == {SEVEN.id: rejection}
    assert rejection.until == day.moment + timedelta(seconds=600)
    day.moment += timedelta(seconds=601)
    assert rejections.add(SEVEN, "canary", "NaN again", OF_VERSION).backoff == 1200


def test_the_wait_has_an_end() -> None:
    rejections = Rejections(600, Day().now)
    assert [rejections.add(SEVEN, "load", "no", OF_VERSION).backoff for _ in range(5)] == [
        600,
        1200,
        2400,
        3600,
        3600,
    ]


def test_what_a_version_is_not_at_fault_for_waits_for_a_shorter_time() -> None:
    waits = {"soon": ("load", "corrupt"), "later": ("load", "killed"), "rejected": ("load", "import_error")}
    found = {}
    for retry, (step, kind) in waits.items():
        cause = cause_of(step, kind)
        assert cause.retry == retry
        rejections = Rejections(600, Day().now)
        found[retry] = [rejections.add(SEVEN, "load", "no", cause).backoff for _ in range(8)]
    assert found["soon"] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert found["later"] == [30, 60, 120, 240, 300, 300, 300, 300]
    assert found["rejected"] == [600, 1200, 2400, 3600, 3600, 3600, 3600, 3600]


def test_another_kind_of_failure_begins_with_a_wait_of_its_own() -> None:
    rejections = Rejections(600, Day().now)
    rejections.add(SEVEN, "load", "killed", cause_of("load", "killed"))
    assert rejections.add(SEVEN, "canary", "NaN", OF_VERSION).backoff == 600
    assert rejections.add(SEVEN, "load", "killed", cause_of("load", "killed")).backoff == 30


def test_a_version_that_nobody_wants_any_more_is_forgotten() -> None:
    rejections = Rejections(600, Day().now)
    rejections.add(SEVEN, "thresholds", "metric accuracy is 0.1, below 0.9", OF_VERSION)
    rejections.keep_only(EIGHT)
    assert list(rejections) == []


def test_what_was_registered_again_under_the_same_number_is_another_version() -> None:
    again = Version("7", "@champion", "http://registry", "runs:/1/model", created=2)
    rejections = Rejections(600, Day().now)
    rejections.add(SEVEN, "canary", "no", OF_VERSION)
    assert again.id not in rejections.by_id()


def test_a_host_that_is_lost_is_replaced_at_once_and_then_ever_more_slowly() -> None:
    day = Day()
    backoff = ExponentialBackoff(day.clock)
    backoff.succeeded()
    waits = []
    for _ in range(4):
        backoff.lost()
        waits.append(backoff.left())
        day.seconds += backoff.left()
        assert backoff.left() == 0
        backoff.succeeded()
    assert waits[0] == 0
    assert 0.8 <= waits[1] <= 1.2
    assert 1.6 <= waits[2] <= 2.4
    assert 3.2 <= waits[3] <= 4.8


@pytest.mark.parametrize("moment", [-5.0, 0.0, 5.0])
def test_nothing_waits_before_anything_failed_wherever_the_steady_clock_begins(moment: float) -> None:
    backoff = ExponentialBackoff(lambda: moment)
    assert backoff.left() == 0


def test_a_host_that_lasted_is_replaced_at_once_again() -> None:
    day = Day()
    backoff = ExponentialBackoff(day.clock)
    backoff.failed()
    backoff.failed()
    backoff.succeeded()
    day.seconds += 3600
    backoff.lost()
    assert backoff.left() == 0


def test_a_host_that_dies_every_few_minutes_is_never_waited_for_as_long() -> None:
    day = Day()
    backoff = ExponentialBackoff(day.clock)
    backoff.succeeded()
    waits = []
    for _ in range(20):
        day.seconds += 300
        backoff.lost()
        waits.append(backoff.left())
        day.seconds += backoff.left()
        backoff.succeeded()
    assert max(waits) == 0
