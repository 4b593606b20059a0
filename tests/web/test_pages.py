"""What a browser gets: the status page and, in debug mode, the two viewers of the API."""

import re
from html.parser import HTMLParser
from importlib.machinery import ModuleSpec

import pytest

from mlopsd.probe import Advice, Finding, Reading, Status
from mlopsd.web import docs
from mlopsd.web.page import age_text
from mlopsd.web.parts import Info
from tests.web.fakes import STARTED, House

HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
HOT = Finding("heat", Status.UNHEALTHY, "GPU 2 is at 99 °C", "gpu 2", advice=Advice.RESET_GPU)
EVIL = "<script>alert('x')</script>&\"'"
VOID = ("meta", "link", "br")


class Outline(HTMLParser):
    """Checks that tags close in order, and keeps the text and what is loaded."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.words: list[str] = []
        self.loaded: list[str] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loaded += [value or "" for name, value in attrs if name in ("src", "href", "action", "style")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


async def page(house: House) -> Outline:
    async with house.on_tcp() as client, client.get("/", headers=HTML) as answer:
        assert answer.status == 200
        assert answer.content_type == "text/html"
        return Outline(await answer.text())


async def test_the_page_has_the_verdict_the_advice_and_a_card_a_probe() -> None:
    house = House()
    house.watch("gpu", Reading(findings=[HOT]))
    house.watch("system", Reading(findings=[Finding("disk", Status.HEALTHY, "half full")]))
    house.watch("model")
    outline = await page(house)
    for said in (
        "is unhealthy",
        "Advice: reset gpu",
        "gpu unhealthy",
        "heat (gpu 2): GPU 2 is at 99 °C",
        "system healthy",
        "disk : half full".replace(" :", ":"),
        "model unknown",
        "not checked yet",
        "checked 0 s ago , took 0.25 s",
    ):
        assert said in outline.text.replace(" ago,", " ago ,")
    assert outline.tags.count("article") == 3
    assert outline.tags.count("h1") == 1
    assert outline.tags.count("main") == 1


async def test_the_page_shows_what_is_worst_first() -> None:
    house = House()
    house.watch("alpha", Reading(findings=[Finding("x", Status.HEALTHY, "well")]))
    house.watch("omega", Reading(findings=[HOT]))
    outline = await page(house)
    assert outline.text.index("omega unhealthy") < outline.text.index("alpha healthy")


async def test_the_page_escapes_whatever_a_probe_says() -> None:
    house = House()
    finding = Finding(EVIL, Status.UNHEALTHY, EVIL, EVIL)
    house.watch("gpu", Reading(findings=[finding], summary=EVIL))
    house.info = Info(EVIL, STARTED, "production", STARTED, EVIL)
    outline = await page(house)
    assert "script" not in outline.tags
    assert outline.text.count(EVIL) >= 5


async def test_the_page_survives_text_that_is_no_unicode() -> None:
    house = House()
    house.watch("gpu", Reading(findings=[Finding("x", Status.DEGRADED, "\udcff")]))
    assert "gpu degraded" in (await page(house)).text


async def test_the_page_tells_that_a_status_is_held_back_by_damping() -> None:
    house = House()
    house.watch("gpu", Reading(findings=[Finding("x", Status.HEALTHY, "well")]))
    house.board.record("gpu", Reading(findings=[HOT]), 0.1)
    assert "Still healthy: 1 of 2 readings in a row unhealthy so far." in (await page(house)).text


async def test_the_page_tells_that_the_daemon_stops_and_that_a_reload_failed() -> None:
    house = House()
    house.draining = True
    house.info = Info("1", STARTED, "production", STARTED, "api.port: no")
    text = (await page(house)).text
    assert "The daemon is stopping." in text
    assert "The configuration could not be reloaded: api.port: no" in text


async def test_the_page_loads_nothing_and_may_not() -> None:
    house = House()
    house.watch("gpu", Reading(findings=[HOT]))
    async with house.on_tcp() as client, client.get("/", headers=HTML) as answer:
        policy, html = answer.headers["Content-Security-Policy"], await answer.text()
    outline = Outline(html)
    assert "script" not in outline.tags
    assert all(target.startswith("/") and not target.startswith("//") for target in outline.loaded)
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"url\(|@import|https?://", html)


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
    ("seconds", "said"),
    [(-1, "0 s"), (0, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (172800, "2 d")],
)
def test_an_age_is_said_in_the_largest_unit_it_fills(seconds: float, said: str) -> None:
    assert age_text(seconds) == said


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


async def test_without_the_package_that_has_the_files_the_cure_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def nowhere(_name: str) -> ModuleSpec | None:
        return None

    monkeypatch.setattr(docs, "find_spec", nowhere)
    async with House(debug=True).on_tcp() as client, client.get("/docs") as answer:
        assert answer.status == 404
        assert "pip install 'mlopsd[dev]'" in (await answer.json())["detail"]
