"""Durations, sizes, times, ratios and counts in words."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from mlopsd.format import (
    format_age,
    format_celsius,
    format_count,
    format_duration,
    format_ratio,
    format_size,
    format_time,
)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0 s"),
        (0, "0 s"),
        (0.9, "0 s"),
        (90, "90 s"),
        (119.9, "119 s"),
        (120, "2 min"),
        (179, "2 min"),
        (721, "12 min"),
        (3600, "60 min"),
        (7199, "119 min"),
        (7200, "2 h"),
        (2 * 86400 - 1, "47 h"),
        (2 * 86400, "2 d"),
        (1e6, "11 d"),
    ],
)
def test_an_age_is_in_the_largest_unit_that_it_fills_twice_and_never_rounded_up(
    seconds: float, text: str
) -> None:
    assert format_age(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0 s"),
        (0, "0 s"),
        (0.0004, "0.4 ms"),
        (0.0125, "12.5 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1 s"),
        (1, "1 s"),
        (4.5, "4.5 s"),
        (61.53, "61.5 s"),
    ],
)
def test_a_duration_has_three_digits_below_two_minutes(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize("seconds", [90, 120, 721, 7200, 1e6])
def test_a_duration_and_an_age_of_as_many_seconds_read_the_same(seconds: float) -> None:
    assert format_duration(seconds) == format_age(seconds)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (512, "512 bytes"),
        (999, "999 bytes"),
        (1000, "1 kB"),
        (500_000_000, "500 MB"),
        (999_600_000, "1 GB"),
        (1_200_000_000, "1.2 GB"),
        (100_000_000_000, "100 GB"),
        (3e18, "3e+03 PB"),
    ],
)
def test_a_size_is_decimal_and_has_three_digits(size: float, text: str) -> None:
    assert format_size(size) == text


@pytest.mark.parametrize(
    ("ratio", "text"),
    [(0, "0 %"), (0.00004, "0 %"), (0.0123, "1.23 %"), (0.0496, "4.96 %"), (0.25, "25 %"), (1, "100 %")],
)
def test_a_ratio_is_percent_with_three_digits(ratio: float, text: str) -> None:
    assert format_ratio(ratio) == text


def test_a_temperature_is_rounded_to_the_degree() -> None:
    assert format_celsius(84.6) == "85 °C"


@pytest.mark.parametrize(("number", "text"), [(0, "0 GPUs"), (1, "1 GPU"), (8, "8 GPUs")])
def test_a_noun_takes_an_s_but_for_one(number: int, text: str) -> None:
    assert format_count(number, "GPU") == text


def test_a_time_is_rfc_3339_in_utc_to_the_millisecond() -> None:
    assert format_time(datetime(2026, 12, 31, 23, 59, 59, 999999, UTC)) == "2026-12-31T23:59:59.999Z"
    east = timezone(timedelta(hours=2))
    assert format_time(datetime(2026, 12, 31, 1, 0, 0, 0, east)) == "2026-12-30T23:00:00.000Z"
