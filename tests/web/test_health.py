"""What is read: the codes, the JSON, and that nothing a probe says can break an answer."""

import json
import math
from datetime import UTC, datetime, timedelta, timezone
from fractions import Fraction
from typing import Any

import pytest

from mlopsd.format import format_time
from mlopsd.probe import Advice, Finding, Reading, Status
from mlopsd.web.jsonable import DEEPEST, dumps, jsonable
from tests.web.fakes import OPEN_PATHS, House, OneReload

HEALTHY = Reading(findings=[Finding("door", Status.HEALTHY, "the door is shut")])
SICK = Reading(findings=[Finding("door", Status.UNHEALTHY, "the door is gone", advice=Advice.REBOOT)])


async def test_the_verdict_says_status_since_summary_advice_and_each_probe_in_a_word() -> None:
    house = House()
    house.watch("door", SICK)
    house.watch("roof", HEALTHY)
    async with house.on_tcp() as client, client.get("/health/") as response:
        answer = await response.json()
    since = answer.pop("since")
    assert since.endswith("Z")
    assert datetime.fromisoformat(since).tzinfo is not None
    assert answer == {
        "status": "unhealthy",
        "summary": "door unhealthy: the door is gone",
        "advice": "reboot",
        "probes": {"door": "unhealthy", "roof": "healthy"},
    }


@pytest.mark.parametrize("path", ["/health/", "/health", "/health/detailed", "/readyz", "/health/door"])
@pytest.mark.parametrize(
    ("status", "code"),
    [(Status.HEALTHY, 200), (Status.DEGRADED, 200), (Status.UNKNOWN, 503), (Status.UNHEALTHY, 503)],
)
async def test_the_code_follows_the_status(path: str, status: Status, code: int) -> None:
    house = House()
    house.watch("door", Reading(findings=[Finding("door", status, "so it is")]))
    async with house.on_tcp() as client, client.get(path) as response:
        assert response.status == code
        assert ("Retry-After" in response.headers) == (code == 503)


async def test_without_any_probe_the_host_is_unknown() -> None:
    async with House().on_tcp() as client, client.get("/health/") as response:
        assert response.status == 503
        assert (await response.json())["advice"] == "fix_config"


@pytest.mark.parametrize(
    ("path", "code"),
    [("/health/", 503), ("/health/detailed", 503), ("/readyz", 503), ("/health/door", 200), ("/livez", 200)],
)
async def test_while_draining_the_host_is_not_ready_and_still_answers(path: str, code: int) -> None:
    house = House()
    house.watch("door", HEALTHY)
    house.draining = True
    async with house.on_tcp() as client, client.get(path) as response:
        assert response.status == code


async def test_one_probe_answers_by_itself_alone() -> None:
    house = House()
    house.watch("door", SICK)
    house.watch("roof", HEALTHY)
    async with house.on_tcp() as client:
        assert (await client.get("/health/roof")).status == 200
        assert (await client.get("/health/door")).status == 503


async def test_an_unknown_probe_is_404_and_the_nearest_name_is_named() -> None:
    house = House()
    house.watch("door", HEALTHY)
    async with house.on_tcp() as client, client.get("/health/dor") as response:
        assert response.status == 404
        assert "did you mean 'door'?" in (await response.json())["detail"]


async def test_a_reading_has_the_keys_of_the_contract_and_none_without_a_value() -> None:
    house = House()
    finding = Finding("heat", Status.DEGRADED, "84 of 80", "gpu 2", 84.5, "celsius", 80, Advice.WATCH)
    bare = Finding("fan", Status.HEALTHY, "it turns", observed=math.nan)
    began = house.board.clock()
    house.watch("gpu", Reading(findings=[finding, bare], facts={"driver": "550"}))
    async with house.on_tcp() as client, client.get("/health/gpu") as response:
        answer = await response.json()
    assert list(answer) == [
        *("probe", "status", "summary", "since", "checked_at", "age_seconds", "duration_seconds"),
        *("interval_seconds", "raw_status", "raw_count", "findings", "facts"),
    ]
    assert answer["findings"] == [
        {
            "name": "heat",
            "subject": "gpu 2",
            "status": "degraded",
            "since": answer["checked_at"],
            "observed": 84.5,
            "unit": "celsius",
            "limit": 80,
            "summary": "84 of 80",
            "advice": "watch",
        },
        {
            "name": "fan",
            "status": "healthy",
            "since": answer["checked_at"],
            "summary": "it turns",
            "advice": "none",
        },
    ]
    assert answer["facts"] == {"driver": "550"}
    assert answer["duration_seconds"] == 0.25
    assert 0 <= answer["age_seconds"] <= house.board.clock() - began


async def test_a_probe_that_was_never_checked_has_no_age_and_no_raw_status() -> None:
    house = House()
    house.watch("door")
    async with house.on_tcp() as client, client.get("/health/door") as response:
        answer = await response.json()
    assert set(answer) == {"probe", "status", "summary", "since", "interval_seconds", "findings", "facts"}
    assert answer["status"] == "unknown"


async def test_damping_shows_the_raw_status_and_how_often_it_came() -> None:
    house = House()
    house.watch("door", HEALTHY)
    house.board.record("door", SICK, 0.1)
    async with house.on_tcp() as client, client.get("/health/door") as response:
        answer = await response.json()
    assert (answer["status"], answer["raw_status"], answer["raw_count"]) == ("healthy", "unhealthy", 1)


async def test_detailed_is_the_verdict_the_host_the_version_and_every_reading() -> None:
    house = House()
    house.watch("door", HEALTHY)
    house.watch("roof", HEALTHY)
    async with house.on_tcp() as client:
        detailed = await (await client.get("/health/detailed")).json()
        one = await (await client.get("/health/roof")).json()
    assert set(detailed) == {"status", "since", "summary", "advice", "host", "version", "probes"}
    assert list(detailed["probes"]) == ["door", "roof"]
    assert detailed["version"] == "1.2.3"
    del detailed["probes"]["roof"]["age_seconds"], one["age_seconds"]
    assert detailed["probes"]["roof"] == one


async def test_answers_follow_the_board_although_they_are_kept_written_out() -> None:
    house = House()
    house.watch("door", HEALTHY)
    async with house.on_tcp() as client:
        for path in ("/health/", "/health/detailed", "/health/door"):
            assert (await client.get(path)).status == 200
        house.board.record("door", SICK, 0.1)
        house.board.record("door", SICK, 0.1)
        for path in ("/health/", "/health/detailed", "/health/door"):
            assert (await client.get(path)).status == 503
            assert "the door is gone" in await (await client.get(path)).text()
        house.board.forget("door")
        assert (await (await client.get("/health/detailed")).json())["probes"] == {}


async def test_the_age_grows_between_two_answers_about_the_same_reading() -> None:
    house = House()
    house.watch("door", HEALTHY)
    start = house.board.clock()
    async with house.on_tcp() as client:
        house.board.clock = lambda: start + 3
        first = (await (await client.get("/health/door")).json())["age_seconds"]
        house.board.clock = lambda: start + 10
        second = (await (await client.get("/health/door")).json())["age_seconds"]
    assert second - first == pytest.approx(7, abs=0.01)


async def test_all_readings_together_follow_the_board_at_once_and_the_clock_soon() -> None:
    house = House()
    moment = [house.board.clock()]
    house.board.clock = lambda: moment[0]
    house.watch("door", HEALTHY)
    async with house.on_tcp() as client:
        first = await (await client.get("/health/detailed")).json()
        house.board.record("door", HEALTHY, 0.1)
        second = await (await client.get("/health/detailed")).json()
        moment[0] += 7
        third = await (await client.get("/health/detailed")).json()
    assert [answer["probes"]["door"]["raw_count"] for answer in (first, second)] == [1, 2]
    assert [answer["probes"]["door"]["age_seconds"] for answer in (second, third)] == [0, 7]


async def test_no_get_runs_a_check() -> None:
    house = House()
    watch = house.watch("door", HEALTHY)
    async with house.on_tcp() as client:
        for path in OPEN_PATHS:
            await client.get(path)
        await client.get("/health/door/check")
        await client.get("/health/door/reload")
    assert watch.checks == 0
    assert watch.asked == []


async def test_a_running_reload_shows_in_the_reading_and_so_does_its_end() -> None:
    house = House()
    watch = house.watch("door", HEALTHY)
    reload = watch.start_reload(dry_run=False, force=False)
    async with house.on_tcp() as client:
        running = await (await client.get("/health/door")).json()
        reload.done.set_result("the door was oiled")
        ended = await (await client.get("/health/door")).json()
    assert running["reload"] == {"state": "running", "started_at": "2026-01-02T03:04:05.000Z"}
    assert ended["reload"] == {**running["reload"], "state": "done", "detail": "the door was oiled"}


async def test_a_reload_that_was_given_up_shows_as_failed() -> None:
    house = House()
    watch = house.watch("door", HEALTHY)
    watch.start_reload(dry_run=False, force=False).done.cancel()
    async with house.on_tcp() as client, client.get("/health/door") as response:
        assert (await response.json())["reload"]["state"] == "failed"


async def test_a_reload_that_ran_out_of_time_reports_it_although_its_error_has_no_text() -> None:
    house = House()
    watch = house.watch("door", HEALTHY)
    watch.start_reload(dry_run=False, force=False).done.set_exception(TimeoutError())
    async with house.on_tcp() as client, client.get("/health/door") as response:
        assert "it exceeded the probe's timeout" in (await response.json())["reload"]["detail"]
    assert isinstance(watch.reload, OneReload)


class Unspeakable:
    def __repr__(self) -> str:
        raise RuntimeError("no words")


STRANGE: list[tuple[Any, Any]] = [
    (math.nan, None),
    (math.inf, None),
    (-math.inf, None),
    (10**400, None),
    (Fraction(10**400), None),
    (Fraction(1, 4), 0.25),
    (2**63, None),
    (2**63 - 1, 2**63 - 1),
    (True, True),
    (Status.UNHEALTHY, "unhealthy"),
    (Advice.REBOOT, "reboot"),
    (datetime(2026, 1, 2, 4, 4, 5, 678900, timezone(timedelta(hours=1))), "2026-01-02T03:04:05.678Z"),
    (b"bytes", "b'bytes'"),
    ({1: {2.5: None}}, {"1": {"2.5": None}}),
    ((1, [2]), [1, [2]]),
    ({3}, [3]),
    (1 + 2j, "(1+2j)"),
]


@pytest.mark.parametrize(("value", "shown"), STRANGE)
async def test_whatever_is_in_the_facts_the_answer_is_json(value: Any, shown: Any) -> None:
    house = House()
    house.watch("door", Reading(findings=HEALTHY.findings, facts={"fact": value}))
    async with house.on_tcp() as client, client.get("/health/door") as response:
        assert json.loads(await response.read(), parse_constant=pytest.fail)["facts"] == {"fact": shown}


@pytest.mark.parametrize("path", ["/health/", "/health/door", "/health/detailed"])
async def test_text_that_is_no_unicode_breaks_no_answer(path: str) -> None:
    house = House()
    house.watch("door", Reading(findings=[Finding("door", Status.DEGRADED, "\udcff °C", "\ud800")]))
    async with house.on_tcp() as client, client.get(path) as response:
        assert "? °C" in json.dumps(json.loads((await response.read()).decode("utf-8")), ensure_ascii=False)


def test_a_fact_that_holds_itself_or_cannot_be_shown_ends_all_the_same() -> None:
    ring: list[Any] = []
    ring.append(ring)
    shown = dumps(jsonable({"ring": ring, "unspeakable": Unspeakable()})).decode()
    assert shown.count("[") == DEEPEST - 1
    assert "Unspeakable" in shown


def test_a_time_is_in_utc_with_a_z() -> None:
    assert format_time(datetime(2026, 12, 31, 23, 59, 59, 999999, UTC)) == "2026-12-31T23:59:59.999Z"


async def test_what_lasts_is_marked_and_stays_beside_a_reading_that_is_undecided() -> None:
    house = House()
    lost = Finding("gpu", Status.UNHEALTHY, "the GPU is lost", advice=Advice.REBOOT, lasting=True)
    house.watch("gpu", Reading(findings=[lost, Finding("fan", Status.HEALTHY, "it turns", lasting=True)]))
    house.board.record("gpu", Reading(summary="no answer"), 0.1)
    async with house.on_tcp() as client, client.get("/health/gpu") as response:
        answer = await response.json()
    (finding,) = answer["findings"]
    assert (finding["name"], finding["lasting"], finding["advice"]) == ("gpu", True, "reboot")
    assert finding["summary"] == answer["summary"].removeprefix("no answer; before that: ")
    assert (answer["status"], answer["raw_status"], answer["raw_count"]) == ("unhealthy", "unknown", 1)


async def test_what_is_well_or_does_not_last_is_not_marked_as_lasting() -> None:
    house = House()
    house.watch("gpu", SICK)
    house.watch("fan", Reading([Finding("fan", Status.HEALTHY, "it turns", lasting=True)]))
    async with house.on_tcp() as client, client.get("/health/detailed") as response:
        answer = await response.json()
    assert not any("lasting" in probe["findings"][0] for probe in answer["probes"].values())


async def test_a_reading_of_before_a_reload_says_so_until_the_next() -> None:
    house = House()
    house.watch("door", HEALTHY)
    house.board.keep("door", house.board["door"].terms)
    async with house.on_tcp() as client:
        async with client.get("/health/door") as response:
            before = await response.json()
        house.board.record("door", HEALTHY, 0.1)
        async with client.get("/health/door") as response:
            after = await response.json()
    assert (before["status"], before["before_reload"]) == ("healthy", True)
    assert before["summary"] == f"{after['summary']}, by the table before the reload"
    assert "before_reload" not in after
