"""The strip of the status page: what is known of the last 24 hours, and what is not."""

from datetime import UTC, datetime, timedelta
from typing import Any

from mlopsd.format import format_time
from mlopsd.probe import Advice, Status
from mlopsd.verdict import Verdict
from mlopsd.web.page.strip import MOST_SEGMENTS, WIDTH, DrawnSegment, segments_of, strip

NOW = datetime(2026, 12, 1, 3, tzinfo=UTC)
Event = dict[str, Any]


def ago(hours: float) -> datetime:
    return NOW - timedelta(hours=hours)


def changed(hours: float, status: str, before: str, summary: str = "why") -> Event:
    told = {"event": "health changed", "status": status, "before": before, "summary": summary}
    return {"time": format_time(ago(hours)), **told}


def other(hours: float, event: str) -> Event:
    return {"time": format_time(ago(hours)), "event": event}


def verdict(hours: float, status: Status = Status.HEALTHY) -> Verdict:
    return Verdict(status, ago(hours), "now", Advice.NONE)


def day(events: list[Event], current: Verdict) -> list[DrawnSegment]:
    return strip(segments_of(events, current), NOW)


def outline(events: list[Event], current: Verdict) -> list[tuple[str, float, str]]:
    """The status, the hours and the cause of each segment."""
    return [
        (
            str(one.segment.status),
            round((one.segment.end - one.segment.start).total_seconds() / 3600, 2),
            one.segment.cause.partition(":")[0],
        )
        for one in day(events, current)
    ]


def test_a_status_of_more_than_a_day_fills_the_strip() -> None:
    assert outline([changed(50, "healthy", "unknown")], verdict(50)) == [("healthy", 24, "now")]


def test_each_change_has_its_hours_and_its_cause() -> None:
    events = [
        changed(30, "healthy", "unknown", "well"),
        changed(10, "unhealthy", "healthy", "gpu 3 is lost"),
        changed(9, "healthy", "unhealthy", "well again"),
    ]
    found = outline(events, verdict(9))
    assert found == [("healthy", 14, "well"), ("unhealthy", 1, "gpu 3 is lost"), ("healthy", 9, "now")]


def test_before_the_first_event_nothing_is_known() -> None:
    assert outline([changed(2, "healthy", "unknown")], verdict(2)) == [
        ("None", 22, "not known"),
        ("healthy", 2, "now"),
    ]
    assert outline([], verdict(1, Status.UNKNOWN)) == [("None", 23, "not known"), ("unknown", 1, "now")]


def test_a_stop_is_not_known_until_the_next_start() -> None:
    events = [changed(30, "healthy", "unknown"), other(6, "stopping"), changed(5, "healthy", "unknown")]
    found = outline(events, verdict(5))
    assert found == [("healthy", 18, "why"), ("None", 1, "not known"), ("healthy", 5, "now")]


def test_after_a_crash_only_what_was_seen_before_is_known() -> None:
    events = [changed(30, "healthy", "unknown"), other(8, "probe reloaded"), changed(5, "healthy", "unknown")]
    found = outline(events, verdict(5))
    assert found == [("healthy", 16, "why"), ("None", 3, "not known"), ("healthy", 5, "now")]


def test_right_after_a_start_the_past_is_not_taken_for_the_present() -> None:
    events = [changed(30, "healthy", "unknown"), other(4, "started")]
    found = outline(events, verdict(1, Status.UNKNOWN))
    assert found == [("healthy", 20, "why"), ("None", 3, "not known"), ("unknown", 1, "now")]


def test_another_advice_ends_no_segment_of_the_present() -> None:
    events = [changed(9, "unhealthy", "healthy"), changed(3, "unhealthy", "unhealthy", "another cause")]
    found = outline([changed(30, "healthy", "unknown"), *events], verdict(9, Status.UNHEALTHY))
    assert found == [("healthy", 15, "why"), ("unhealthy", 9, "now")]


def test_a_host_that_flaps_has_a_bounded_strip_that_shows_the_worst() -> None:
    events = [changed(30, "healthy", "unknown")]
    for number in range(400):
        hours = 20 - number / 20
        events += [
            changed(hours, "unhealthy", "healthy", "lost"),
            changed(hours - 0.01, "healthy", "unhealthy"),
        ]
    drawn = day(events, verdict(0.001))
    assert MOST_SEGMENTS < len(drawn) <= 97
    assert sum(one.segment.status is Status.UNHEALTHY for one in drawn) >= 79
    assert max(one.segment.changes for one in drawn) > 5


def test_a_short_outage_can_be_seen_and_nothing_leaves_the_drawing() -> None:
    events = [changed(30, "healthy", "unknown"), changed(0.001, "unhealthy", "healthy")]
    for one in day(events, verdict(0.001, Status.UNHEALTHY)):
        assert one.width >= 8
        assert one.x >= 0
        assert one.x + one.width <= WIDTH
