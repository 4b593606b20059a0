"""How the page goes over the wire: what a scraper asks for, and what it can unpack."""

import asyncio
import gzip
import itertools
import random
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer, unused_port

from mlopsd.board import Board
from mlopsd.entry import Terms
from mlopsd.metrics.exposition import Dialect, accepts_gzip, choose_dialect
from mlopsd.metrics.registry import Metrics
from mlopsd.probe import Finding, Metric, Reading, Status
from tests.running import GIVE_UP

OPENMETRICS = "application/openmetrics-text"
PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
    "application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,"
    "text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)
TERMS = Terms(interval=15, timeout=5)
HEAT = Metric("temperature_celsius", "What the sensor says.", unit="celsius", labels=("gpu", "what"))


@pytest.fixture
async def board() -> AsyncIterator[Board]:
    board = Board()
    yield board
    board.close()


def record(board: Board, probe: str, heats: int, start: float = 30) -> None:
    samples = [HEAT.sample(start + gpu / 8, gpu=gpu, what=f"größe {gpu}") for gpu in range(heats)]
    board.record(probe, Reading([Finding("heat", Status.HEALTHY, "fine")], samples), 0.1)


@pytest.mark.parametrize(
    ("accept", "dialect"),
    [
        (PROMETHEUS_2, Dialect.OPENMETRICS),
        (PROMETHEUS_3, Dialect.OPENMETRICS),
        ("", Dialect.TEXT),
        ("*/*", Dialect.TEXT),
        ("text/html,application/xhtml+xml,*/*;q=0.8", Dialect.TEXT),
        (f"{OPENMETRICS}", Dialect.OPENMETRICS),
        (f"{OPENMETRICS}; Version=1.0.0; charset=utf-8", Dialect.OPENMETRICS),
        (f'{OPENMETRICS.upper()};version="1.0.0"', Dialect.OPENMETRICS),
        (f"{OPENMETRICS};version=0.0.1", Dialect.TEXT),
        (f"{OPENMETRICS};version=2.0.0", Dialect.TEXT),
        (f"{OPENMETRICS};q=0", Dialect.TEXT),
        (f"{OPENMETRICS};q=0,*/*", Dialect.TEXT),
        (f"{OPENMETRICS};q=0.4,text/plain;q=0.5", Dialect.TEXT),
        (f"{OPENMETRICS};q=0.5,text/plain;q=0.4", Dialect.OPENMETRICS),
        (f"{OPENMETRICS},text/plain", Dialect.OPENMETRICS),
        (f"text/plain,{OPENMETRICS}", Dialect.OPENMETRICS),
        (f"{OPENMETRICS};q=0.5,text/*", Dialect.TEXT),
        (f"{OPENMETRICS};q=0.5,*/*;q=0.9", Dialect.TEXT),
        ("text/plain;q=0.1,*/*;q=0.9", Dialect.OPENMETRICS),
        ("text/plain;version=0.0.4", Dialect.TEXT),
        ("application/json", Dialect.TEXT),
        (f"{OPENMETRICS};q=high", Dialect.TEXT),
        (f"{OPENMETRICS};q=nan", Dialect.TEXT),
        (f"{OPENMETRICS};q=2", Dialect.TEXT),
        (",;,=;q=", Dialect.TEXT),
    ],
)
def test_the_dialect_is_the_one_that_accept_likes_best(accept: str, dialect: Dialect) -> None:
    assert choose_dialect(accept) is dialect


@pytest.mark.parametrize(
    ("accept_encoding", "gzipped"),
    [
        ("gzip", True),
        ("gzip, deflate, br, zstd", True),
        ("GZIP;q=0.5", True),
        ("x-gzip", True),
        ("gzip, identity", True),
        ("*", True),
        ("br;q=1, *;q=0.5", True),
        ("gzip;q=1.0, identity; q=0.5, *;q=0", True),
        ("", False),
        ("identity", False),
        ("br", False),
        ("gzip;q=0", False),
        ("gzip; q=0.000, *", False),
        ("*;q=0", False),
        ("gzip;q=0.5, identity", False),
        ("gzip;q=x", False),
    ],
)
def test_gzip_is_used_where_it_is_liked(accept_encoding: str, *, gzipped: bool) -> None:
    assert accepts_gzip(accept_encoding) is gzipped


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8"),
        (PROMETHEUS_2, "application/openmetrics-text; version=1.0.0; charset=utf-8"),
    ],
)
async def test_the_headers_say_what_the_body_is(board: Board, accept: str, content_type: str) -> None:
    metrics = Metrics(board, "1")
    vary = {"Content-Type": content_type, "Vary": "Accept, Accept-Encoding"}
    plain, packed = metrics.render(accept, "identity"), metrics.render(accept, "gzip")
    assert plain.headers == vary
    assert packed.headers == {**vary, "Content-Encoding": "gzip"}
    assert gzip.decompress(packed.body) == plain.body
    assert plain.body.endswith(b"# EOF\n") is (accept == PROMETHEUS_2)


async def test_gzip_stays_one_valid_member_through_many_partial_changes(board: Board, tmp_path: Path) -> None:
    now = [0.0]
    metrics = Metrics(board, "1", lambda: now[0])
    dice = random.Random(7)
    for probe in "abc":
        metrics.probes.declare(f"plugin{probe}", [HEAT])
        board.enrol(probe, f"plugin{probe}", TERMS)
    for step in range(300):
        change = dice.randrange(5)
        if change == 0:
            record(board, dice.choice("abc"), dice.randrange(40), dice.random())
        elif change == 1:
            metrics.http_request("GET", f"/{dice.randrange(9)}", 200, dice.random())
        elif change == 2:
            metrics.probes.checked(dice.choice("abc"), "healthy", dice.random())
        elif change == 3:
            metrics.probes.forget(dice.choice("abc"))
        else:
            now[0] += 1
        accept = dice.choice((PROMETHEUS_2, ""))
        packed = metrics.render(accept, "gzip").body
        assert gzip.decompress(packed) == metrics.render(accept, "").body, step
    (tmp_path / "page.gz").write_bytes(packed)
    subprocess.run(["gzip", "-t", tmp_path / "page.gz"], check=True)  # noqa: ASYNC221  # nothing else runs


@pytest.fixture
async def served(
    board: Board,
) -> AsyncIterator[tuple[Metrics, list[dict[str, str]], TestServer, asyncio.Event]]:
    """A server with nothing but the page, what it was asked, and an event for three gzip scrapes."""
    metrics = Metrics(board, "1", itertools.count().__next__)  # a second between two looks at the clock
    asked: list[dict[str, str]] = []
    enough = asyncio.Event()

    async def answer(request: web.Request) -> web.Response:
        accept, coding = (request.headers.get(name, "") for name in ("Accept", "Accept-Encoding"))
        page = metrics.render(accept, coding)
        asked.append({"Accept": accept, "Accept-Encoding": coding, **page.headers})
        metrics.http_request(request.method, "/metrics", 200, 0.001)
        if len(asked) >= 3:
            enough.set()
        return web.Response(body=page.body, headers=dict(page.headers))

    app = web.Application()
    app.router.add_get("/metrics", answer)
    server = TestServer(app)
    async with server:
        yield metrics, asked, server, enough


Served = tuple[Metrics, list[dict[str, str]], TestServer, asyncio.Event]


@pytest.mark.needs("curl")
async def test_curl_unpacks_the_page(board: Board, served: Served) -> None:
    metrics, asked, server, _ = served
    metrics.probes.declare("gpu", [HEAT])
    board.enrol("gpu", "gpu", TERMS)
    record(board, "gpu", 50)
    metrics.render("", "gzip")
    metrics.http_request("GET", "/health/", 200, 0.1)
    curl = await asyncio.create_subprocess_exec(
        "curl", "-sS", "--compressed", str(server.make_url("/metrics")), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await asyncio.wait_for(curl.communicate(), GIVE_UP)
    assert asked[0]["Content-Encoding"] == "gzip"
    assert out.count(b"mlopsd_gpu_temperature_celsius{") == 50
    assert b'route="/health/",status="200"} 1\n' in out


@pytest.mark.needs("prometheus")
async def test_a_real_prometheus_scrapes_the_page_as_gzip_and_finds_its_series(
    board: Board, served: Served, tmp_path: Path
) -> None:
    metrics, asked, server, enough = served
    traps = ['x"} 1\nfake{b="y', "back\\slash", "größe 🔥", "control \x1f\x0b\r\x00.", ""]
    metrics.probes.declare("gpu", [HEAT])
    board.enrol("gpu", "gpu", TERMS)
    samples = [HEAT.sample(40 + number, gpu=number, what=trap) for number, trap in enumerate(traps)]
    board.record("gpu", Reading([Finding("heat", Status.HEALTHY, "fine")], samples), 0.1)
    port = unused_port()
    config = tmp_path / "prometheus.yml"
    config.write_text(
        f"scrape_configs: [{{job_name: mlopsd, scrape_interval: 1s, scrape_timeout: 1s, "
        f"static_configs: [{{targets: ['127.0.0.1:{server.port}']}}]}}]"
    )
    prometheus = await asyncio.create_subprocess_exec(
        shutil.which("prometheus") or "prometheus",
        f"--config.file={config}",
        f"--storage.tsdb.path={tmp_path / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        await asyncio.wait_for(enough.wait(), GIVE_UP)
        found = await until_stored(port, "mlopsd_gpu_temperature_celsius", len(traps))
        assert {series["metric"].get("what", "") for series in found} == set(
            traps
        )  # no label is an empty one
        assert {float(series["value"][1]) for series in found} == {40, 41, 42, 43, 44}
        assert await query(port, "fake") == []
        assert {one["Content-Encoding"] for one in asked} == {"gzip"}
        assert {one["Content-Type"] for one in asked} == {Dialect.OPENMETRICS.value}
    finally:
        prometheus.terminate()
        await asyncio.wait_for(prometheus.wait(), GIVE_UP)


async def until_stored(port: int, expression: str, many: int) -> list[dict[str, Any]]:
    """At least *many* series for *expression*, from a scrape that was not late: such a one stores nothing."""
    async with asyncio.timeout(GIVE_UP):
        while True:
            found = await query(port, expression)
            up = [series["value"][1] for series in await query(port, "up")]
            if len(found) >= many and up == ["1"]:
                return found
            await asyncio.sleep(0.1)


async def query(port: int, expression: str) -> list[dict[str, Any]]:
    """What Prometheus answers to *expression*: series with labels, time, and value as text."""
    url = f"http://127.0.0.1:{port}/api/v1/query"
    async with ClientSession() as session, session.get(url, params={"query": expression}) as answer:
        found: list[dict[str, Any]] = (await answer.json())["data"]["result"]
        return found
