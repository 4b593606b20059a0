"""What holds for every request: its id, its line in the log, the form of errors, limits, other origins."""

import asyncio
import json
import logging
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import aiohttp
import pytest

from mlopsd.config.schema import Settings
from mlopsd.log_limit import LogLimiter
from mlopsd.metrics.registry import Metrics
from mlopsd.probe import Finding, HttpRequest, HttpResponse, Reading, Route, Status
from mlopsd.web import middleware
from mlopsd.web.app import make_metrics_app
from mlopsd.web.server.connection import Timeouts
from mlopsd.web.server.listener import Listener
from mlopsd.web.server.site import Site
from tests.web.fakes import House

SHUT = Reading(findings=[Finding("door", Status.HEALTHY, "the door is shut")])
KEY = {"X-API-Key": "sesame-0123456789"}
CHECK = "/health/door/check"
KEYED = f"POST {CHECK} HTTP/1.1\r\nHost: localhost\r\nX-API-Key: sesame-0123456789\r\n"
PAGE = "https://grafana.example"


@asynccontextmanager
async def built(**tables: Any) -> AsyncIterator[tuple[House, aiohttp.ClientSession]]:
    house = House(**tables)
    house.let_in("sesame-0123456789")
    house.watch("door", SHUT)
    async with house.on_tcp(Timeouts(linger=0.05)) as client:
        yield house, client


async def raw(client: aiohttp.ClientSession, request: bytes) -> tuple[bytes, dict[bytes, bytes], bytes]:
    """The answer to the bytes of *request*: status line, headers, body."""
    url = client._base_url
    assert url is not None
    reader, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.split(b"\r\n")
    return status, {name.lower(): value for name, _, value in (line.partition(b": ") for line in lines)}, body


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/health/"),
        ("GET", "/health/detailed"),
        ("GET", "/health/door"),
        ("GET", "/info"),
        ("GET", "/"),
        ("GET", "/openapi.json"),
        ("POST", CHECK),
        ("POST", "/health/door/reload"),
        ("POST", "/reload"),
        ("GET", "/nope"),
        ("GET", "/health/nope"),
        ("DELETE", "/health/"),
    ],
)
async def test_every_json_answer_ends_its_line(method: str, path: str) -> None:
    async with built() as (_, client), client.request(method, path, headers=KEY) as answer:
        body = await answer.read()
    assert "json" in answer.content_type
    assert body.endswith(b"}\n")
    assert body.count(b"\n") == 1
    json.loads(body)


@pytest.mark.parametrize("path", ["/health/", "/nope", "/health/nope", "/metrics"])
async def test_every_answer_carries_the_callers_id(path: str) -> None:
    async with built() as (_, client), client.get(path, headers={"X-Request-ID": "a.b-c_9"}) as answer:
        assert answer.headers["X-Request-ID"] == "a.b-c_9"


@pytest.mark.parametrize("given", ["", "a b", "x" * 65, "<script>", "é"])
async def test_an_id_that_is_not_sane_is_replaced(given: str) -> None:
    async with built() as (_, client), client.get("/health/", headers={"X-Request-ID": given}) as answer:
        assert re.fullmatch(r"[0-9a-f]{16}", answer.headers["X-Request-ID"])


async def test_two_requests_have_two_ids() -> None:
    async with built() as (_, client):
        ids = {(await client.get("/livez")).headers["X-Request-ID"] for _ in range(5)}
    assert len(ids) == 5


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [("GET", "/nope", 404), ("DELETE", "/health/", 405), ("POST", CHECK, 401), ("PUT", "/nope", 404)],
)
async def test_every_error_is_a_problem_document(method: str, path: str, code: int) -> None:
    async with built() as (_, client), client.request(method, path) as answer:
        problem = json.loads(await answer.read())
        assert answer.content_type == "application/problem+json"
    assert answer.status == problem["status"] == code
    assert set(problem) == {"type", "title", "status", "detail", "request_id"}
    assert problem["request_id"] == answer.headers["X-Request-ID"]


@pytest.mark.parametrize(
    ("path", "allowed"),
    [("/health/", "GET,HEAD"), ("/health/door", "GET,HEAD"), (CHECK, "POST"), ("/reload", "POST")],
)
async def test_a_method_that_a_path_does_not_take_is_405_with_those_it_takes(path: str, allowed: str) -> None:
    async with built() as (_, client), client.request("PATCH", path) as answer:
        assert answer.status == 405
        assert answer.headers["Allow"] == allowed


async def test_head_is_get_without_the_body() -> None:
    async with built() as (_, client):
        for path in (
            "/health/",
            "/health",
            "/health/detailed",
            "/health/door",
            "/livez",
            "/metrics",
            "/info",
            "/",
        ):
            head = await client.head(path)
            assert (head.status, await head.read()) == (200, b"")
            assert int(head.headers["Content-Length"]) > 0


async def test_health_is_not_cached_and_says_nothing_about_its_software() -> None:
    async with built() as (_, client), client.get("/health/") as answer:
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "aiohttp" not in str(answer.headers)


async def test_a_bug_of_ours_is_a_500_without_its_traceback_which_the_log_has(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with built() as (house, client):
        house.metrics.failure = RuntimeError("secret path /etc/x")
        async with client.get("/metrics") as answer:
            text = await answer.text()
    assert answer.status == 500
    assert "secret" not in text
    assert "Traceback" not in text
    assert house.metrics.errors == ["http"]
    (line,) = [record for record in caplog.records if record.message == "request failed"]
    assert line.exc_info is not None
    assert line.__dict__["id"] == answer.headers["X-Request-ID"]


@pytest.mark.parametrize(
    "request_text",
    [
        b"nonsense\r\n\r\n",
        b"GET /health/ HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nbad header\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 9000 + b"\r\n\r\n",
        b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_answered_in_our_form_and_echoes_nothing(
    request_text: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with built() as (house, client):
        status, headers, body = await raw(client, request_text)
    assert b" 400 " in status
    assert headers[b"content-type"] == b"application/problem+json"
    assert json.loads(body)["request_id"].encode() == headers[b"x-request-id"]
    assert b"aaaa" not in body
    assert house.metrics.requests == [("OTHER", "unmatched", 400)]
    assert not [record for record in caplog.records if record.exc_info]


async def test_an_expectation_that_cannot_be_met_is_a_problem_too() -> None:
    async with built() as (_, client):
        request = b"POST /reload HTTP/1.1\r\nHost: localhost\r\nExpect: miracle\r\nConnection: close\r\n\r\n"
        status, headers, body = await raw(client, request)
    assert b" 417 " in status
    assert headers[b"content-type"] == b"application/problem+json"
    assert json.loads(body)["status"] == 417


async def test_a_request_has_one_line_in_the_log_with_the_route_and_not_the_path(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "mlopsd.http")
    began = time.perf_counter()
    async with built() as (_, client):
        await client.post(CHECK, headers=KEY | {"X-Request-ID": "mine"})
    took = time.perf_counter() - began
    (line,) = [record for record in caplog.records if record.name == "mlopsd.http"]
    facts = {name: line.__dict__[name] for name in ("id", "method", "route", "status")}
    assert line.message == "request"
    assert facts == {"id": "mine", "method": "POST", "route": "/health/{probe}/check", "status": 200}
    assert 0 < line.__dict__["duration_seconds"] < took
    assert "sesame-0123456789" not in str(line.__dict__)


@pytest.mark.parametrize(
    ("method", "path", "level"),
    [
        ("GET", "/health/", logging.DEBUG),
        ("HEAD", "/health", logging.DEBUG),
        ("GET", "/health/door", logging.DEBUG),
        ("GET", "/livez", logging.DEBUG),
        ("GET", "/readyz", logging.DEBUG),
        ("GET", "/metrics", logging.DEBUG),
        ("GET", "/info", logging.DEBUG),  # `mlopsd status` of a monitoring system asks it every minute
        ("GET", "/openapi.json", logging.INFO),
        ("GET", "/health/nope", logging.INFO),
        ("GET", "/nope?secret=1", logging.INFO),
        ("POST", CHECK, logging.INFO),
    ],
)
async def test_what_machines_ask_all_the_time_does_not_fill_the_log(
    method: str, path: str, level: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "mlopsd.http")
    async with built() as (_, client):
        await client.request(method, path)
    (line,) = [record for record in caplog.records if record.name == "mlopsd.http"]
    assert line.levelno == level
    assert "secret" not in str(line.__dict__)


async def test_machines_that_are_refused_alike_have_one_line_a_minute_with_their_number(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(middleware, "LogLimiter", partial(LogLimiter, lambda: now))
    caplog.set_level(logging.INFO, "mlopsd.http")
    async with built() as (_, client):
        for _ in range(5):
            await client.get("/health/nope")
            await client.post(CHECK)  # a person's, or a script's: each is told
        now += 61
        await client.get("/health/nope")
    lines = [record.__dict__ for record in caplog.records if record.name == "mlopsd.http"]
    reported = [(line["route"], line.get("repeats")) for line in lines]
    assert reported.count(("/health/{probe}/check", None)) == 5
    assert [line for line in reported if line[0] == "/health/{probe}"] == [
        ("/health/{probe}", None),
        ("/health/{probe}", 4),
    ]


async def test_a_host_that_is_unwell_does_not_fill_the_log_either(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "mlopsd.http")
    house = House()
    async with house.on_tcp() as client:
        assert (await client.get("/health/")).status == 503
    assert [record.levelno for record in caplog.records if record.name == "mlopsd.http"] == [logging.DEBUG]


async def test_a_fault_of_ours_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    async with built(api={"request_timeout": 0.01}) as (house, client):
        house.watches["door"].hold = asyncio.Event()
        assert (await client.post(CHECK, headers=KEY)).status == 504
    assert [record.levelno for record in caplog.records if record.message == "request"] == [logging.WARNING]


async def test_requests_are_counted_by_route_with_bounded_labels() -> None:
    async with built() as (house, client):
        await client.get("/health")
        await client.get("/health/door")
        await client.get("/health/window")
        await client.get("/a/b/c")
        await client.request("PROPFIND", "/health/")
        await client.post(CHECK)
    assert house.metrics.requests == [
        ("GET", "/health/", 200),
        ("GET", "/health/{probe}", 200),
        ("GET", "/health/{probe}", 404),
        ("GET", "unmatched", 404),
        ("OTHER", "unmatched", 405),
        ("POST", "/health/{probe}/check", 401),
    ]


@pytest.mark.parametrize("method", ["TRACE", "PROPFIND"])
async def test_a_method_has_one_word_in_the_log_and_in_the_metrics(
    method: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "mlopsd.http")
    async with built() as (house, client):
        await client.request(method, "/health/")
    (line,) = [record for record in caplog.records if record.name == "mlopsd.http"]
    metrics = Metrics(house.board, "1.2.3")
    metrics.http_request(method, "/health/", 405, 0.1)
    (counted,) = re.findall(r'requests_total\{method="(\w+)"', metrics.render().body.decode())
    assert line.__dict__["method"] == house.metrics.requests[0][0] == counted


async def test_a_body_over_the_limit_is_413_whether_it_says_so_or_not() -> None:
    async def drip() -> AsyncIterator[bytes]:
        for _ in range(4):
            yield b"x" * 40

    async with built(api={"max_body_size": 100}) as (house, client):
        assert (await client.post(CHECK, headers=KEY, data=b"x" * 100)).status == 200
        assert (await client.post(CHECK, headers=KEY, data=b"x" * 101)).status == 413
        assert (await client.post(CHECK, headers=KEY, data=drip())).status == 413
    assert house.watches["door"].checks == 1


async def test_a_body_that_says_it_is_too_large_is_not_waited_for() -> None:
    async with built() as (_, client):
        head = f"{KEYED}Content-Length: {10**10}\r\n\r\n"
        status, _, _ = await raw(client, head.encode())
    assert b" 413 " in status


async def test_a_body_that_unpacks_to_more_than_the_limit_is_413() -> None:
    async with built(api={"max_body_size": 1000}) as (_, client):
        answer = await client.post(CHECK, headers=KEY, data=b"x" * 1_000_000, compress="deflate")
    assert answer.status == 413


async def test_a_body_that_does_not_come_is_408() -> None:
    async with built(api={"request_timeout": 0.05}) as (house, client):
        head = f"{KEYED}Content-Length: 10\r\n\r\nhalf"
        status, headers, _ = await raw(client, head.encode())
    assert b" 408 " in status
    assert headers[b"connection"] == b"close"
    assert house.watches["door"].checks == 0


async def test_a_body_that_is_broken_is_400() -> None:
    async with built() as (house, client):
        head = f"{KEYED}Transfer-Encoding: chunked\r\n\r\n"
        status, _, _ = await raw(client, head.encode() + b"zz\r\n")
    assert b" 400 " in status
    assert house.watches["door"].checks == 0


async def test_a_body_is_not_read_from_a_caller_who_may_not_act() -> None:
    async with built() as (_, client):
        head = f"POST {CHECK} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\nConnection: close\r\n\r\n"
        url = client._base_url
        assert url is not None
        reader, writer = await asyncio.open_connection(url.host, url.port)
        writer.write(head.encode())
        assert b" 401 " in await reader.readline()
        writer.close()


async def test_without_configured_origins_no_answer_speaks_of_them() -> None:
    async with built() as (_, client):
        for method, path in (("GET", "/health/"), ("POST", CHECK), ("OPTIONS", "/health/")):
            async with client.request(method, path, headers={"Origin": PAGE}) as answer:
                assert not [name for name in answer.headers if name.startswith("Access-Control")]
                assert "Vary" not in answer.headers


async def test_a_configured_origin_may_read() -> None:
    async with built(api={"cors_origins": [PAGE]}) as (_, client):
        async with client.get("/health/", headers={"Origin": PAGE}) as answer:
            assert answer.headers["Access-Control-Allow-Origin"] == PAGE
            assert "Origin" in answer.headers["Vary"]
            assert "X-REQUEST-ID" in answer.headers["Access-Control-Expose-Headers"].upper()
        async with client.get("/health/", headers={"Origin": "https://evil.example"}) as answer:
            assert "Access-Control-Allow-Origin" not in answer.headers
            assert "Origin" in answer.headers["Vary"]


async def test_a_configured_origin_acts_with_a_key_after_its_preflight() -> None:
    async with built(api={"cors_origins": [PAGE]}) as (_, client):
        asked = {
            "Origin": PAGE,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "x-api-key, content-type",
        }
        async with client.options(CHECK, headers=asked) as answer:
            assert answer.status == 200
            assert answer.headers["Access-Control-Allow-Origin"] == PAGE
            assert answer.headers["Access-Control-Allow-Methods"] == "POST"
        async with client.post(CHECK, headers={"Origin": PAGE, **KEY}) as answer:
            assert answer.status == 200
            assert answer.headers["Access-Control-Allow-Origin"] == PAGE
        async with client.post(CHECK, headers={"Origin": PAGE}) as answer:
            assert answer.status == 401
            assert answer.headers["Access-Control-Allow-Origin"] == PAGE


@pytest.mark.parametrize(
    ("origin", "method", "header"),
    [("https://evil.example", "POST", "x-api-key"), (PAGE, "DELETE", "x-api-key"), (PAGE, "POST", "x-other")],
)
async def test_a_preflight_for_more_than_is_allowed_fails(origin: str, method: str, header: str) -> None:
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": header,
    }
    async with (
        built(api={"cors_origins": [PAGE]}) as (_, client),
        client.options(CHECK, headers=asked) as answer,
    ):
        assert answer.status == 403
        assert answer.content_type == "application/problem+json"
        assert "Access-Control-Allow-Origin" not in answer.headers


def preflight(method: str, origin: str = PAGE, headers: str = "x-api-key") -> dict[str, str]:
    return {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": headers,
    }


async def test_a_preflight_is_answered_and_counted_by_its_route() -> None:
    async with built(api={"cors_origins": [PAGE]}) as (house, client):
        async with client.options("/health/door", headers=preflight("HEAD")) as answer:
            assert answer.status == 200
            assert answer.headers["Access-Control-Max-Age"] == "600"
            assert "Access-Control-Allow-Credentials" not in answer.headers
            assert "Origin" in answer.headers["Vary"]
        assert (await client.options("/nope", headers=preflight("GET"))).status == 404
        assert (await client.options("/health/", headers={"Origin": PAGE})).status == 403
        assert (await client.options("/health/")).status == 403
    assert [route for _, route, _ in house.metrics.requests] == [
        "/health/{probe}",
        "unmatched",
        "/health/",
        "/health/",
    ]


async def test_a_page_may_ask_a_probes_own_route_as_any_other() -> None:
    async def unlock(_request: HttpRequest) -> HttpResponse:
        return HttpResponse(b"{}")

    async with built(api={"cors_origins": [PAGE]}) as (house, client):
        house.watches["door"].routes = (Route("POST", "/locks/{lock}", unlock, "Open a lock"),)
        path = "/probes/door/locks/front"
        async with client.options(path, headers=preflight("POST")) as answer:
            assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (200, PAGE)
        assert (await client.options(path, headers=preflight("GET"))).status == 403
        async with client.post(path, headers={"Origin": PAGE, **KEY}) as answer:
            assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (200, PAGE)
    assert {route for _, route, _ in house.metrics.requests} == {"/probes/door/locks/{lock}"}


async def test_origins_that_change_count_from_the_next_request_on() -> None:
    async with built() as (house, client):
        for origins in ([PAGE], [], ["*"]):
            house.settings = Settings(api={"cors_origins": origins})  # type: ignore[arg-type]  # as in a file
            async with client.get("/health/", headers={"Origin": PAGE}) as answer:
                assert answer.headers.get("Access-Control-Allow-Origin") == (PAGE if origins else None)
                assert ("Vary" in answer.headers) == bool(origins)
            async with client.options(CHECK, headers=preflight("POST")) as answer:
                assert answer.status == (200 if origins else 405)
                assert answer.headers.get("Access-Control-Allow-Origin") == (PAGE if origins else None)
                assert answer.headers.get("Allow") == (None if origins else "POST")


async def test_a_key_header_that_changes_counts_from_the_next_request_on() -> None:
    async with built() as (house, client):
        assert (await client.post(CHECK, headers={"X-Door": "sesame-0123456789"})).status == 401
        house.settings = Settings(api={"api_key_header": "X-Door"})  # type: ignore[arg-type]  # as in a file
        assert (await client.post(CHECK, headers={"X-Door": "sesame-0123456789"})).status == 200
        assert (await client.post(CHECK, headers=KEY)).status == 401


async def test_a_configured_origin_does_not_act_without_a_key() -> None:
    house = House(debug=True, api={"cors_origins": [PAGE]})
    house.watch("door", SHUT)
    async with house.on_tcp() as client, client.post(CHECK, headers={"Origin": PAGE}) as answer:
        assert answer.status == 403


async def test_metrics_are_asked_for_in_the_callers_form() -> None:
    async with built() as (house, client):
        headers = {"Accept": "application/openmetrics-text", "Accept-Encoding": "gzip"}
        assert await (await client.get("/metrics", headers=headers)).text() == "mlopsd_up 1\n"
    assert house.metrics.rendered == [("application/openmetrics-text", "gzip")]


async def test_metrics_that_are_off_are_404_with_the_reason() -> None:
    async with built(metrics={"enabled": False}) as (_, client), client.get("/metrics") as answer:
        assert answer.status == 404
        assert "[metrics] enabled = false" in (await answer.json())["detail"]


async def test_the_metrics_server_has_metrics_and_nothing_else() -> None:
    house = House()
    listener = Listener.tcp("127.0.0.1", 0)
    try:
        async with (
            Site(make_metrics_app(house.parts), listener),
            aiohttp.ClientSession(f"http://127.0.0.1:{listener.port}") as client,
        ):
            assert (await client.get("/metrics")).status == 200
            async with client.get("/health/") as answer:
                assert answer.status == 404
                assert answer.content_type == "application/problem+json"
    finally:
        listener.close()
