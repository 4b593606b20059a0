"""What a browser gets: the status page and, in debug mode, the two viewers of the API."""

import asyncio
import base64
import hashlib
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest
from markupsafe import Markup

from mlopsd.entry import PastReading
from mlopsd.format import format_age
from mlopsd.predictor import PredictionError
from mlopsd.probe import (
    Advice,
    Column,
    Finding,
    Metric,
    Reading,
    ReloadRefused,
    Sample,
    Status,
    SubjectTable,
)
from mlopsd.trends import Traffic
from mlopsd.web.api import docs
from mlopsd.web.context import Info
from mlopsd.web.page.status_page import plot
from tests.web.fakes import STARTED, House, OneReload

HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
HOT = Finding("heat", Status.UNHEALTHY, "GPU 2 is at 99 °C", "gpu 2", advice=Advice.RESET_GPU)
KEY = {"X-API-Key": "k" * 32, "Content-Type": "application/json"}
WELL = Finding("heat", Status.HEALTHY, "GPU 2 is at 60 °C", "gpu 2")
EVIL = "<script>alert('x')</script>&\"'"
VOID = ("meta", "link", "br")


def ended(error: Exception) -> asyncio.Future[str]:
    future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    future.set_exception(error)
    return future


class Outline(HTMLParser):
    """Checks that tags close in order, and keeps the text (style and script aside) and what is loaded."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.words: list[str] = []
        self.loaded: list[str] = []
        self.ids: list[str] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loaded += [value or "" for name, value in attrs if name in ("src", "href", "action", "style")]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)  # in SVG

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.words.append(data)

    @property
    def text(self) -> str:
        """All that is said, with a mark of punctuation where it belongs."""
        return re.sub(r" (?=[,;:.)])", "", " ".join(" ".join(self.words).split()))


async def page(house: House) -> Outline:
    async with house.on_tcp() as client, client.get("/", headers=HTML) as answer:
        assert answer.status == 200
        assert answer.content_type == "text/html"
        return Outline(await answer.text())


async def test_the_page_has_the_verdict_the_advice_and_a_card_a_probe() -> None:
    house = House()
    moment = house.board.clock()
    house.board.clock = lambda: moment
    house.watch("gpu", Reading(findings=[HOT]))
    house.watch("system", Reading(findings=[Finding("disk", Status.HEALTHY, "half full")]))
    house.watch("model")
    outline = await page(house)
    for output in (
        "is unhealthy Advice: reset gpu",
        "gpu unhealthy",
        "heat (gpu 2): GPU 2 is at 99 °C",
        "system healthy",
        "disk: half full",
        "model unknown",
        "not checked yet, expected every 15 s",
        "checked 0 s ago, took 250 ms, every 15 s",
    ):
        assert output in outline.text
    assert outline.tags.count("article") == 3
    assert outline.tags.count("h1") == 1
    assert outline.tags.count("main") == 1
    assert len(outline.ids) == len(set(outline.ids))


async def test_the_page_shows_what_is_worst_first() -> None:
    house = House()
    house.watch("alpha", Reading(findings=[Finding("x", Status.HEALTHY, "well")]))
    mild = Finding("mild", Status.DEGRADED, "mild")
    house.watch("omega", Reading(findings=[Finding("fine", Status.HEALTHY, "fine"), mild, HOT]))
    text = (await page(house)).text
    assert text.index("omega unhealthy") < text.index("alpha healthy")
    assert text.index("unhealthy heat") < text.index("degraded mild") < text.index("healthy fine")


async def test_a_summary_that_is_the_worst_finding_is_not_shown_twice_in_a_card() -> None:
    house = House()
    house.watch("gpu", Reading(findings=[HOT]))
    house.watch("other", Reading(findings=[HOT], summary="a sentence of its own"))
    text = (await page(house)).text
    assert "gpu unhealthy Advice: reset gpu unhealthy heat (gpu 2)" in text
    assert "other unhealthy a sentence of its own Advice" in text


@pytest.mark.parametrize("evil", [EVIL, Markup(EVIL)], ids=["text", "text that calls itself HTML"])
async def test_the_page_escapes_whatever_a_probe_says(evil: str) -> None:
    house = House()
    finding = Finding(evil, Status.UNHEALTHY, evil, evil)
    well = Finding(evil, Status.HEALTHY, evil, evil)
    facts = {
        evil: evil,
        "nested": [{evil: evil}],
        "list": [evil, evil],
        "model": evil,
        "desired": {"version": evil, "candidate": evil, "registry": evil},
        "served": {"version": evil, "candidate": evil, "registry": evil},
        "progress": {"step": evil, "version": evil, "since": evil, "bytes": 1, "total_bytes": 2},
        "rejected": [{"version": evil, "reason": evil, "until": evil}],
        "drift_since": evil,
    }
    reading = Reading(findings=[finding, well], summary=evil, facts=facts)
    house.watch("gpu", reading).reload = OneReload(ended(ReloadRefused(evil)))
    other = house.watch("other", Reading(findings=[finding], summary=evil + "."))
    other.reload = OneReload(asyncio.get_running_loop().create_future())
    other.reload.done.set_result(evil)
    house.info = Info(EVIL, STARTED, "production", STARTED, EVIL)
    gauge = Metric("speed", "Speed.", labels=("fan",))
    house.parts.trends.follow(
        {"gpu": SubjectTable("fan", (Column(evil, gauge),), "fans", "number", {"place": evil})}
    )
    speed = Sample("speed", 1.0, (("fan", evil),))
    fans = {"fans": [{"number": evil, "place": evil}]}
    house.board.record("gpu", replace(reading, samples=[speed], facts={**facts, **fans}), 0.25)
    outline = await page(house)
    assert f"fan {EVIL}" in outline.text
    assert outline.tags.count("script") == 1
    assert outline.text.count(EVIL) >= 31


async def test_predictions_are_in_the_row_of_their_model() -> None:
    house = House()
    moment = 3000.0
    house.parts.traffic = Traffic(lambda: moment)
    oracle = house.oracle("model", default=True)
    house.parts.traffic.follow(["model"])
    async with house.on_tcp() as client:

        async def predict() -> int:
            async with client.post("/invocations", data=b"1", headers=KEY) as answer:
                return answer.status

        house.let_in("k" * 32)
        assert [await predict() for _ in range(3)] == [200] * 3
        for code in (503, 429, 400):
            oracle.failure = PredictionError(code, "no")
            assert await predict() == code
        oracle.failure = RuntimeError("no")
        assert await predict() == 500
        moment += 30
        async with client.get("/", headers=HTML) as answer:
            text = Outline(await answer.text()).text
    assert re.search(r"model none in service 0\.233 /s .* 3 .* ms ", text), text


async def test_the_page_survives_text_that_is_no_unicode() -> None:
    house = House()
    house.watch("gpu", Reading(findings=[Finding("x", Status.DEGRADED, "\udcff")], facts={"x": "\udcff"}))
    assert "gpu degraded" in (await page(house)).text


@pytest.mark.parametrize(
    ("status", "raw", "output"),
    [
        (WELL, HOT, "Still healthy: 1 of 2 readings worse, the last one unhealthy."),
        (HOT, WELL, "Still unhealthy: 1 of 2 readings better, the last one healthy."),
    ],
)
async def test_the_page_shows_that_a_status_is_held_back_by_damping(
    status: Finding, raw: Finding, output: str
) -> None:
    house = House()
    house.watch("gpu", Reading(findings=[status]))
    assert "Still" not in (await page(house)).text
    house = House()
    house.watch("gpu", Reading(findings=[status]))
    house.board.record("gpu", Reading(findings=[raw]), 0.1)
    assert output in (await page(house)).text


async def test_the_page_shows_that_a_reading_is_of_before_the_reload() -> None:
    house = House()
    house.watch("gpu", Reading(findings=[HOT]))
    assert "before the reload" not in (await page(house)).text
    house.board.keep("gpu", house.board["gpu"].terms)
    assert "By the table before the reload." in (await page(house)).text


async def test_the_page_has_what_lasts_beside_a_reading_that_is_undecided() -> None:
    house = House()
    house.watch("gpu", Reading(findings=[replace(HOT, lasting=True)]))
    house.board.record("gpu", Reading(summary="no answer within 10 s"), 0.1)
    outline = await page(house)
    assert "no answer within 10 s; before that: GPU 2 is at 99 °C (as of " in outline.text
    assert "gpu unhealthy" in outline.text
    assert "Advice: reset gpu" in outline.text


async def test_the_page_shows_that_the_daemon_stops_and_that_a_reload_failed() -> None:
    house = House()
    house.draining = True
    house.info = Info("1", STARTED, "production", STARTED, "api.port: no")
    text = (await page(house)).text
    assert "The daemon is stopping." in text
    assert "The configuration could not be reloaded: api.port: no" in text


async def test_the_page_shows_how_the_last_reload_of_a_probe_stands() -> None:
    house = House()
    watch = house.watch("model", Reading(findings=[HOT]))
    watch.reload = OneReload(ended(ReloadRefused("GPU 0 is unhealthy")))
    assert "Reload refused: GPU 0 is unhealthy, begun 2026-01-02 03:04:05 UTC" in (await page(house)).text


async def test_a_model_has_its_versions_what_is_in_progress_and_what_was_rejected() -> None:
    house = House()
    named = {"candidate": "@champion", "registry": "http://registry"}
    drift = (house.board.now() - timedelta(minutes=12, seconds=5)).isoformat()
    until = (house.board.now() + timedelta(minutes=25, seconds=30)).isoformat()
    progress = {"step": "fetch", "version": "7", "since": drift, "bytes": 3e9, "total_bytes": 10e9}
    facts = {
        "model": "churn",
        "desired": {"version": "7", **named},
        "served": {"version": "6", **named},
        "drift_since": drift,
        "progress": progress,
        "rejected": [{"version": "8", "reason": "accuracy 0.7 is below 0.8", "until": until}],
        "host": {"pid": 4711},
    }
    house.watch("model", Reading(findings=[HOT], facts=facts))
    outline = await page(house)
    for output in (
        "Desired version 7, @champion of http://registry",
        "Served version 6, @champion",
        "UTC ( 12 min)",
        "In progress fetch of version 7, for 12 min 3 GB of 10 GB (30%)",
        "version 8: accuracy 0.7 is below 0.8; tried again",
        "UTC (in 25 min)",
        "1 fact host.pid 4711",
    ):
        assert output in outline.text
    assert outline.tags.count("progress") == 1


async def test_what_a_probe_shows_between_two_readings_is_on_the_page() -> None:
    house = House()
    house.watch("model", Reading(findings=[HOT], facts={"progress": {"step": "judge", "version": "7"}}))
    progress = {"step": "fetch", "version": "7", "bytes": 5e8, "total_bytes": 1e9}
    house.board.show("model", {"progress": progress})
    assert "In progress fetch of version 7 500 MB of 1 GB (50%)" in (await page(house)).text


NO_SHAPES: list[dict[Any, Any]] = [
    {"progress": 3},
    {"progress": {"step": "fetch", "bytes": "many", "total_bytes": -1}},
    {"progress": {"step": "fetch", "bytes": float("nan"), "total_bytes": 10**400}},
    {"progress": {"step": "fetch", "bytes": 5, "total_bytes": 0, "since": "0001-01-01T00:00:00+23:59"}},
    {"progress": {"step": "fetch", "since": "yesterday"}, "rejected": [1], "desired": "7"},
    {"served": None, "desired": {"version": None}, "drift_since": "2026-01-01T00:00:00", "rejected": {}},
    {1: 2, (3, 4): {5}, "a": {"b": [[], {}, [[1]]]}, "true": True, "one": 1, "none": None},
    {"served": {"version": 10**5000, "candidate": {}}, "huge": 10**5000},
]


@pytest.mark.parametrize("facts", NO_SHAPES, ids=range(len(NO_SHAPES)))
async def test_facts_of_any_shape_are_shown(facts: dict[str, Any]) -> None:
    house = House()
    house.watch("door", Reading(findings=[WELL], facts=facts))
    assert "door healthy" in (await page(house)).text


async def test_facts_without_an_end_are_cut_off() -> None:
    endless: dict[str, Any] = {"many": list(range(100_000)), "long": "x" * 10_000_000}
    endless["itself"] = endless
    house = House()
    house.watch("door", Reading(findings=[WELL], facts=endless))
    outline = await page(house)
    assert "200+ facts" in outline.text
    assert len(outline.text) < 50_000


async def test_the_last_readings_are_a_plot_and_a_sentence() -> None:
    house = House()
    house.watch("gpu", Reading(findings=[WELL]))
    assert "last reading: 1 healthy; newest healthy; longest 250 ms" in (await page(house)).text
    house = House()
    house.watch("gpu")
    assert "figure" in (await page(house)).tags
    assert (await page(house)).tags.count("path") == 0
    for _ in range(200):
        house.board.record("gpu", Reading(findings=[WELL]), 0.25)
    house.board.record("gpu", Reading(), 2.0)
    outline = await page(house)
    output = "last 120 readings: 119 healthy, 1 unknown; newest unknown; longest 2 s"
    assert output in outline.text
    assert outline.tags.count("path") == 2


def test_each_status_has_a_sign_of_its_own_in_the_plot() -> None:
    drawn = [plot([PastReading(STARTED, status, status, 0.0)]) for status in Status]
    shapes = {path for one in drawn if one is not None for _status, path in one.paths}
    assert len(shapes) == len(Status)


async def test_no_file_is_read_while_the_loop_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    really, loop = Path.open, threading.get_ident()
    read: list[str] = []

    def only_elsewhere(path: Path, *arguments: Any, **named: Any) -> Any:
        assert threading.get_ident() != loop, f"{path} is read on the loop"
        read.append(path.name)
        return really(path, *arguments, **named)

    monkeypatch.setattr(Path, "open", only_elsewhere)
    outline = await page(House())
    assert outline.text
    assert read == ["page.css", "page.js", "template.html"]


def test_the_template_engine_is_imported_when_a_page_is_asked_for_and_not_before() -> None:
    code = (
        "import sys; from mlopsd.daemon import daemon; from mlopsd.web.page.status_page import PageTemplate; "
        "assert 'jinja2' not in sys.modules; PageTemplate(); assert 'jinja2' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


async def test_the_page_has_one_style_and_one_script_known_by_their_hashes_and_loads_nothing() -> None:
    house = House()
    house.watch("gpu", Reading(findings=[HOT]))
    async with house.on_tcp() as client, client.get("/", headers=HTML) as answer:
        policy, html = answer.headers["Content-Security-Policy"], await answer.text()
    outline = Outline(html)
    assert all(target.startswith(("/", "#")) and target[1] != "/" for target in outline.loaded)
    for tag, source in (("style", "style-src"), ("script", "script-src")):
        (code,) = re.findall(f"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
        assert f"{source} 'sha256-{digest}';" in policy
    assert "default-src 'none'" in policy
    assert "connect-src 'self';" in policy
    assert "unsafe" not in policy
    assert not re.search(r"url\(|@import|https?://|<!--", html)


async def test_without_scripts_the_page_does_not_claim_to_renew_itself() -> None:
    text = (await page(House())).text
    assert "Without scripts this page does not renew itself: reload it." in text
    assert "Live" not in text


async def test_who_knows_the_page_learns_so_until_something_but_an_age_changes() -> None:
    house = House()
    watch = house.watch("model", Reading(findings=[HOT]))
    async with house.on_tcp() as client:

        async def ask(known: str) -> tuple[int, str]:
            async with client.get("/", headers={**HTML, "If-None-Match": known}) as answer:
                assert answer.headers["Vary"] == "Accept"
                return answer.status, answer.headers["ETag"]

        _, known = await ask('"nothing"')
        assert await ask(known) == (304, known)
        changes: list[Callable[[], object]] = [
            lambda: house.board.record("model", Reading(findings=[HOT]), 0.25),
            lambda: house.board.show("model", {"progress": {"step": "load"}}),
            lambda: watch.start_reload(dry_run=False, force=False),
            lambda: watch.end("done it"),
            lambda: setattr(house, "draining", True),
            lambda: setattr(house, "info", Info("1", STARTED, "production", STARTED, "no")),
            lambda: house.board.forget("model"),
        ]
        for change in changes:
            change()
            status, changed = await ask(known)
            assert status == 200
            assert changed != known
            known = changed
            assert await ask(known) == (304, known)
        for unknown in ("*", 'W/"', "nonsense", '"a", "b"'):
            assert (await ask(unknown))[0] == 200


async def test_two_applications_do_not_share_their_etags() -> None:
    house = House()
    known = set()
    for _ in range(2):
        async with house.on_tcp() as client, client.get("/", headers=HTML) as answer:
            known.add(answer.headers["ETag"])
    assert len(known) == 2


async def test_the_page_is_readable_on_a_phone_and_in_the_dark() -> None:
    async with House().on_tcp() as client, client.get("/", headers=HTML) as answer:
        html = await answer.text()
    assert 'content="width=device-width, initial-scale=1"' in html
    assert "prefers-color-scheme: dark" in html
    assert '<html lang="en">' in html


async def test_a_program_gets_the_information_at_the_root() -> None:
    async with House().on_tcp() as client:
        root, info = await client.get("/"), await client.get("/info")
        assert await root.json() == await info.json()
        assert root.headers["Vary"] == "Accept"


@pytest.mark.parametrize(
    ("seconds", "output"),
    [
        (-1, "0 s"),
        (0.9, "0 s"),
        (119.9, "119 s"),
        (120, "2 min"),
        (7199, "119 min"),
        (7200, "2 h"),
        (1e6, "11 d"),
    ],
)
def test_an_age_is_in_the_largest_unit_it_fills_twice(seconds: float, output: str) -> None:
    assert format_age(seconds) == output


@pytest.mark.parametrize("viewer", [docs.SWAGGER, docs.REDOC])
async def test_in_debug_mode_a_viewer_and_all_it_loads_are_served_from_here(viewer: docs.Viewer) -> None:
    async with House(debug=True).on_tcp() as client:
        async with client.get(f"/{viewer.name}") as answer:
            outline = Outline(await answer.text())
            assert "script-src 'self';" in answer.headers["Content-Security-Policy"]
        assert len(outline.loaded) == len(viewer.files) + 1
        for target in outline.loaded:
            async with client.get(target) as answer:
                assert answer.status == 200
                assert answer.content_type in ("text/javascript", "text/css", "image/png")
                assert len(await answer.read()) > 50


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/docs/swagger-ui.css", "/redoc/start.js"])
async def test_without_debug_mode_there_are_no_viewers(path: str) -> None:
    async with House().on_tcp() as client, client.get(path) as answer:
        assert answer.status == 404
        assert "--debug" in (await answer.json())["detail"]


@pytest.mark.parametrize("name", ["LICENSE", "..%2F__init__.py", "%2e%2e%2f__init__.py", "nothing.js"])
async def test_only_the_files_that_a_viewer_needs_are_served(name: str) -> None:
    async with House(debug=True).on_tcp() as client, client.get(f"/docs/{name}") as answer:
        assert answer.status == 404


async def test_without_the_package_that_has_the_files_the_fix_is_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def nowhere(_name: str) -> ModuleSpec | None:
        return None

    monkeypatch.setattr(docs, "find_spec", nowhere)
    async with House(debug=True).on_tcp() as client, client.get("/docs") as answer:
        assert answer.status == 404
        assert "pip install 'mlopsd[dev]'" in (await answer.json())["detail"]
