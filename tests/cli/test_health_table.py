"""The table of ``mlopsd status``: since when, the worst first, and everything with -v."""

from datetime import UTC, datetime
from typing import Any

from mlopsd.cli.terminal.health_table import ADVICE, MOST_FINDINGS, STATUSES, TableStyle, format_health
from mlopsd.probe import Advice, Status

NOW = datetime(2026, 12, 1, 3, 19, tzinfo=UTC)
NIGHT, LONG_AGO, LATER = "2026-12-01T03:07:00Z", "2026-11-28T03:07:00Z", "2026-12-01T03:15:00Z"


def finding(status: str, since: str, name: str = "xid", **more: Any) -> dict[str, Any]:
    return {"name": name, "status": status, "since": since, "summary": f"{name} {status}", **more}


def reading(status: str, since: str, *findings: dict[str, Any]) -> dict[str, Any]:
    return {
        "status": status,
        "since": since,
        "summary": findings[0]["summary"],
        "findings": findings,
        "age_seconds": 3,
    }


def lines(*, shows_all: bool = False, shows_since: bool = True) -> list[str]:
    gpu = reading(
        "unhealthy",
        NIGHT,
        finding("unhealthy", NIGHT, subject="gpu 3", advice="reboot"),
        finding("healthy", LONG_AGO, "power"),
        finding("unhealthy", LATER, "ecc", subject="gpu 5", advice="reset_gpu"),
    )
    system = reading("healthy", LONG_AGO, finding("healthy", LONG_AGO, "load"))
    health = {
        "status": "unhealthy",
        "since": NIGHT,
        "advice": "reboot",
        "probes": {"system": system, "gpu": gpu},
    }
    style = TableStyle(80, coloured=False, now=NOW, shows_all=shows_all, shows_since=shows_since)
    return format_health(health, style).splitlines()


def at(moment: str) -> str:
    return datetime.fromisoformat(moment).astimezone().strftime("%H:%M")


def test_each_probe_and_finding_shows_since_when() -> None:
    assert lines() == [
        "unhealthy  for 12 min  advice: reboot",
        "",
        "PROBE   STATUS     SINCE           SUMMARY",
        f"gpu     unhealthy  {at(NIGHT)}, 12 min   xid unhealthy",
        "  - unhealthy xid gpu 3 (advice: reboot)",
        f"  - unhealthy ecc gpu 5: ecc unhealthy (since {at(LATER)}, 4 min; advice: reset_gpu)",
        "system  healthy    11-28, 3 d      load healthy",
    ]


def test_verbose_shows_every_finding_and_the_age_of_the_readings() -> None:
    shown = lines(shows_all=True)
    assert shown[2] == "PROBE   STATUS     SINCE           AGE      SUMMARY"
    assert shown[3] == f"gpu     unhealthy  {at(NIGHT)}, 12 min   3 s      xid unhealthy"
    assert shown[-3:] == [
        "  - healthy power: power healthy",
        "system  healthy    11-28, 3 d      3 s      load healthy",
        "  - healthy load",
    ]


def test_a_single_check_has_no_since() -> None:
    shown = lines(shows_since=False)
    assert shown[2] == "PROBE   STATUS     SUMMARY"
    assert not any("since" in line for line in shown)
    assert shown[0] == "unhealthy  advice: reboot"


def test_a_daemon_that_tells_no_time_has_an_empty_cell() -> None:
    health = {"status": "healthy", "probes": {"x": {"status": "healthy", "summary": "well", "findings": []}}}
    *_, row = format_health(health, TableStyle(80, coloured=False)).splitlines()
    assert row == f"x      healthy    {'':16}well"


def test_many_findings_are_shown_with_verbose_alone() -> None:
    many = [finding("degraded", NIGHT, subject=f"pod {number}") for number in range(MOST_FINDINGS + 7)]
    health = {"status": "degraded", "since": NIGHT, "probes": {"pods": reading("degraded", NIGHT, *many)}}
    some = format_health(health, TableStyle(80, coloured=False, now=NOW)).splitlines()
    assert sum("- degraded" in line for line in some) == MOST_FINDINGS
    assert some[-1] == "  - and 7 more findings; see them with -v"
    every = format_health(health, TableStyle(80, coloured=False, now=NOW, shows_all=True)).splitlines()
    assert sum("- degraded" in line for line in every) == len(many)


def test_a_probe_whose_name_ends_another_one_leaves_no_rest_of_it() -> None:
    probes = {name: reading("degraded", NIGHT, finding("degraded", NIGHT)) for name in ("gpu", "my_gpu")}
    summary = "gpu degraded: xid degraded; my_gpu degraded: xid degraded"
    health = {"status": "degraded", "since": NIGHT, "summary": summary, "probes": probes}
    shown = format_health(health, TableStyle(80, coloured=False, now=NOW)).splitlines()
    assert shown[:2] == ["degraded  for 12 min", ""]


def test_a_healthy_probe_shows_its_numbers() -> None:
    numbers = [
        {"title": "Busy", "value": 0.41, "unit": "ratio"},
        {"title": "Memory", "value": 212e9, "unit": "bytes", "limit": 640e9},
        {"title": "Temperature", "value": 62, "unit": "celsius"},
        {"title": "Requests", "value": 12.0, "unit": "/s"},
        {"title": "p99", "value": 0.04, "unit": "seconds"},
        {"title": "Errors", "value": 0, "unit": ""},
    ]
    gpu = {"status": "healthy", "summary": "8 GPUs, all healthy", "findings": [], "numbers": numbers}
    health = {"status": "healthy", "probes": {"gpu": gpu}}
    *_, row = format_health(health, TableStyle(500, coloured=False, shows_since=False)).splitlines()
    assert row.endswith(
        "8 GPUs, all healthy; busy 41 %; memory 212 GB of 640 GB; temperature 62 °C; "
        "requests 12 /s; p99 40 ms; errors 0"
    )
    gpu["status"] = "degraded"
    *_, row = format_health(health, TableStyle(500, coloured=False, shows_since=False)).splitlines()
    assert row.endswith("8 GPUs, all healthy"), "a fault comes first"
    *_, row = format_health(health, TableStyle(500, coloured=False, shows_all=True)).splitlines()
    assert row.endswith("errors 0")


def test_the_order_is_that_of_the_contract() -> None:
    assert list(map(str, Status)) == list(STATUSES)
    assert list(map(str, Advice)) == list(ADVICE)
