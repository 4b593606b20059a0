"""The last half hour of numbers: what a point is, what is forgotten, and how much memory it takes."""

import math
import sys
from array import array
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from mlopsd.entry import Entry, Terms
from mlopsd.probe import Column, Metric, Reading, Sample, Status, SubjectTable
from mlopsd.trends import (
    BOUNDS,
    MOST_TRENDS,
    POINTS,
    SECONDS,
    Cell,
    Traffic,
    Trend,
    Trends,
    cells,
    drawn,
    quantile,
)

USED = Metric("used_bytes", "Used.", unit="bytes", labels=("disk", "kind"))
TOTAL = Metric("total_bytes", "All.", unit="bytes", labels=("disk",))
TABLE = SubjectTable("disk", (Column("Used", USED, {"kind": "data"}, TOTAL, has_trend=True),))
ENTRY = Entry("disks", "disks", Terms(15, 5), Reading(), Status.UNKNOWN, datetime(2026, 12, 1, tzinfo=UTC))


class Clock:
    def __init__(self) -> None:
        self.now = 1000 * SECONDS

    def __call__(self) -> float:
        return self.now


def reading(**disks: float) -> Entry:
    samples = [USED.sample(value, disk=disk, kind="data") for disk, value in disks.items()]
    return replace(ENTRY, reading=Reading(samples=samples))


def known(points: tuple[float, ...]) -> list[float]:
    return [point for point in points if not math.isnan(point)]


def test_a_point_is_the_last_value_of_its_half_minute_and_gaps_stay_gaps() -> None:
    trend = Trend()
    for slot, value in ((100, 1.0), (100, 2.0), (103, 5.0)):
        trend.set(slot, value)
    assert trend.points(103)[-4:] == pytest.approx((2.0, math.nan, math.nan, 5.0), nan_ok=True)
    assert known(trend.points(103)) == [2.0, 5.0]


def test_after_half_an_hour_a_point_is_forgotten() -> None:
    trend = Trend()
    trend.set(100, 1.0)
    assert known(trend.points(100 + POINTS - 1)) == [1.0]
    assert known(trend.points(100 + POINTS)) == []
    trend.set(100 + 5 * POINTS, 2.0)
    assert known(trend.points(100 + 5 * POINTS)) == [2.0]


def test_a_gap_wipes_what_stood_there_half_an_hour_before() -> None:
    trend = Trend()
    for slot in range(100, 100 + POINTS):
        trend.set(slot, 1.0)
    trend.set(100 + POINTS + 3, 2.0)
    assert known(trend.points(100 + POINTS + 3)) == [1.0] * (POINTS - 4) + [2.0]


def test_only_the_numbers_that_a_column_names_are_taken_with_their_limit() -> None:
    samples = [
        USED.sample(3, disk="sda", kind="data"),
        USED.sample(9, disk="sda", kind="cache"),
        TOTAL.sample(8, disk="sda"),
        USED.sample(math.nan, disk="sdb", kind="data"),
        Sample("used_bytes", "much", (("disk", "sdc"), ("kind", "data"))),  # type: ignore[arg-type]
        Sample("used_bytes", 1.0, ("disk",)),  # type: ignore[arg-type]
    ]
    assert cells(TABLE, samples) == {"sda": {"Used": Cell(3, 8)}}


def test_subjects_that_are_gone_and_probes_that_end_leave_nothing() -> None:
    clock = Clock()
    trends = Trends(clock)
    trends.follow({"disks": TABLE})
    trends.record(reading(sda=1, sdb=2))
    clock.now += POINTS * SECONDS
    trends.record(reading(sda=3))
    assert known(trends.points("disks", "sda", "Used")) == [3]
    assert trends.points("disks", "sdb", "Used") == ()
    trends.follow({})
    assert trends.points("disks", "sda", "Used") == ()


def test_the_memory_is_bounded_for_any_number_of_subjects() -> None:
    trends = Trends(Clock())
    trends.follow({"disks": TABLE})
    trends.record(reading(**{f"d{number}": number for number in range(3 * MOST_TRENDS)}))
    held = list(trends._trends.values())
    points = [trend._points for trend in held]
    assert len(held) == MOST_TRENDS
    assert all(each.itemsize * len(each) == 240 for each in points)
    size = sum(map(sys.getsizeof, (*held, *points)))
    assert size <= 400 * MOST_TRENDS


def test_predictions_are_a_rate_failures_and_durations_of_each_probe() -> None:
    clock = Clock()
    traffic = Traffic(clock)
    traffic.follow(["wine", "idle"])
    for number in range(100):
        traffic.observe("wine", 1.0 if number < 2 else 0.010, has_failed=number < 3)
    traffic.observe("nobody", 1.0, has_failed=True)
    clock.now += SECONDS
    figures = traffic.figures("wine")
    assert figures is not None
    assert figures.rate == pytest.approx(100 / SECONDS)
    assert figures.errors == 3
    assert figures.p50 == pytest.approx(0.010, rel=0.2)
    assert figures.p99 == pytest.approx(1.0, rel=0.2)
    assert known(figures.trends["rate"]) == [pytest.approx(100 / SECONDS)]
    idle = traffic.figures("idle")
    assert idle is not None
    assert (idle.rate, idle.errors, idle.p50, idle.p99) == (0, 0, None, None)
    assert traffic.figures("nobody") is None


def test_what_is_half_an_hour_ago_no_longer_counts() -> None:
    clock = Clock()
    traffic = Traffic(clock)
    traffic.follow(["wine"])
    traffic.observe("wine", 0.01, has_failed=True)
    clock.now += 1000 * POINTS * SECONDS
    figures = traffic.figures("wine")
    assert figures is not None
    assert (figures.rate, figures.errors, figures.p99) == (0, 0, None)
    assert known(figures.trends["rate"]) == [0] * POINTS
    assert known(figures.trends["p50"]) == []


def test_a_reload_keeps_the_figures_of_a_probe_that_stays() -> None:
    traffic = Traffic(Clock())
    traffic.follow(["wine"])
    traffic.observe("wine", 0.01, has_failed=True)
    traffic.follow(["wine", "beer"])
    figures = traffic.figures("wine")
    assert figures is not None
    assert figures.errors == 1


def test_predictions_change_the_page_at_most_every_few_seconds() -> None:
    clock = Clock()
    traffic = Traffic(clock)
    traffic.follow(["wine"])
    traffic.observe("wine", 0.01, has_failed=False)
    first = traffic.edition
    traffic.observe("wine", 0.01, has_failed=False)
    assert traffic.edition == first
    clock.now += SECONDS
    assert traffic.edition != first
    assert traffic.edition == traffic.edition


@pytest.mark.parametrize("share", [0.5, 0.99])
@pytest.mark.parametrize("seconds", [0.0001, 0.0005, 0.001, 0.02, 3.0, 60.0])
def test_a_quantile_is_right_within_a_fifth(seconds: float, share: float) -> None:
    counts = array("I", [0]) * (len(BOUNDS) + 1)
    counts[next((place for place, bound in enumerate(BOUNDS) if seconds <= bound), len(BOUNDS))] = 7
    found = quantile(counts, share)
    assert found is not None
    assert found <= seconds * 1.2
    assert found >= seconds / 1.2 or seconds <= BOUNDS[0]


def test_a_line_breaks_where_there_is_no_point() -> None:
    assert list(drawn([math.nan, 1, 2, math.nan, 3])) == [[(1, 1), (2, 2)], [(4, 3)]]


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: Column(" ", USED), "has no title"),
        (lambda: Column("X", Metric("x_total", "X.", "counter")), "is a counter; a column shows a gauge"),
        (lambda: SubjectTable("host", TABLE.columns), "has no label 'host'; add it"),
    ],
)
def test_a_table_that_could_show_nothing_is_refused(make: object, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        make()  # type: ignore[operator]
