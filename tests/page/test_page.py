"""The status page in a real browser, over a real daemon."""

import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.page.browser import Browser
from tests.page.conftest import Play, Start
from tests.page.scenes import SCENES, WELL_SYSTEM, finding, play, steer
from tests.running import Running

pytestmark = pytest.mark.needs("chromium")

MEASURE = (Path(__file__).parent / "measure.js").read_text("utf-8")
OPEN_ALL = "document.querySelectorAll('details').forEach((one) => { one.open = true })"
HIDE = """
Object.defineProperty(document, 'hidden', {get: () => %s, configurable: true});
document.dispatchEvent(new Event('visibilitychange'));
"""
COUNT_ASKED = "performance.getEntriesByType('resource').length"
PAUSE = "await new Promise((done) => setTimeout(done, 20));"


def url(daemon: Running) -> str:
    return f"http://127.0.0.1:{daemon.port}/"


def opened(browser: Browser, daemon: Running) -> None:
    """Load the page, and set a mark that a reload would wipe out."""
    browser.go(url(daemon))
    browser.js("window.mark = true")


@pytest.fixture
def page(browser: Browser, daemon: Running) -> Browser:
    """The page of the shared daemon, in the scene "healthy"."""
    opened(browser, daemon)
    return browser


MISSING = re.compile(r"net::ERR_(CONNECTION|SOCKET|EMPTY_RESPONSE)|not renewed")  # the daemon was gone


@pytest.fixture(autouse=True)
def no_complaints(browser: Browser) -> Iterator[None]:
    """Whatever a test does, the page throws nothing and offends no policy; only answers may be missing."""
    yield
    browser.js("0")  # what is on its way has come
    reported = [one for one in browser.complaints if not MISSING.search(one)]
    assert reported == []


def renewed(browser: Browser, times: int = 1) -> None:
    """Let the page ask *times* more, at once, and show the answers."""
    for _ in range(times):
        browser.until("!asking")
        browser.js("turn()")


def state_after_a_turn(browser: Browser) -> str:
    """What the page claims to be at the moment in which a turn that it begins from now on is over."""
    state: str = browser.js(f"""(async () => {{
        while (asking) {PAUSE}
        const before = dueAt;
        while (dueAt === before) {PAUSE}
        return document.body.dataset.state;
    }})()""")
    return state


def test_a_change_of_status_shows_without_a_reload_and_is_announced(page: Browser, scene: Play) -> None:
    assert page.text("h1").endswith("is HEALTHY")
    page.until(f"{COUNT_ASKED} > 0")
    assert page.js("news.textContent") == ""
    scene("unhealthy")
    page.until("document.getElementById('host').dataset.status === 'unhealthy'")
    assert page.text("h1").endswith("is UNHEALTHY")
    assert "Advice: reset gpu" in page.text("#host")
    assert "the host is unhealthy" in page.js("news.textContent")
    assert "gpu is unhealthy" in page.js("news.textContent")
    assert "system" not in page.js("news.textContent")
    page.until("document.title.startsWith('unhealthy')")
    assert [
        name.split()[0] for name in page.js("[...document.querySelectorAll('h2')].map(e => e.innerText)")
    ] == [
        "gpu",
        "model",
        "system",
    ]
    assert page.js("mark")


def test_a_daemon_that_is_gone_is_reported_and_one_that_is_back_is_shown(
    browser: Browser, start: Start, tmp_path: Path
) -> None:
    page = browser
    with start() as daemon:
        opened(page, daemon)
        assert page.text("#renewal") == "Live: renewed every 2 s. Pause"
        port = daemon.port
        daemon.stop()
    assert state_after_a_turn(page) == "silent"
    assert page.text("#renewal").startswith("No answer from mlopsd since 2")
    assert "All below is old" in page.text("#renewal")
    assert page.js("news.textContent") == "No answer from mlopsd."
    assert page.text("h1").endswith("was HEALTHY")
    assert page.js("document.title").startswith("no answer")
    page.js("scrollTo(0, 10000)")
    assert page.js("document.getElementById('renewal').getBoundingClientRect().top") == 0
    with start("--port", str(port)):
        page.until("document.body.dataset.state === 'live'")
        play(tmp_path, "degraded")
        page.until("document.getElementById('host').dataset.status === 'degraded'")
        assert page.text("h1").endswith("is DEGRADED")
        assert page.text("#renewal") == "Live: renewed every 2 s. Pause"
        assert page.js("document.title").startswith("degraded")
        assert page.js("mark")


def test_a_daemon_that_hangs_is_reported_too(browser: Browser, start: Start) -> None:
    with start() as daemon:
        opened(browser, daemon)
        daemon.process.send_signal(signal.SIGSTOP)
        assert state_after_a_turn(browser) == "silent"
        daemon.process.send_signal(signal.SIGCONT)
        browser.until("document.body.dataset.state === 'live'")


@pytest.mark.parametrize("code", [200, 503])
def test_an_answer_of_somebody_else_is_no_answer(page: Browser, code: int) -> None:
    page.js(f"window.fetch = async () => new Response('<p>It works!</p>', {{status: {code}}}); 0")
    assert state_after_a_turn(page) == "silent"
    assert page.text("h1").endswith("was HEALTHY")


def test_it_asks_ever_more_rarely_while_there_is_no_answer(page: Browser) -> None:
    page.js("window.fetch = async () => { throw new Error('gone') }; 0")
    waits = page.js("""(async () => {
        const waits = [];
        for (const _ of Array(6)) { await turn(); waits.push(Math.round((dueAt - Date.now()) / 1000)); }
        return waits;
    })()""")
    assert waits == [4, 8, 16, 30, 30, 30]


def test_focus_open_details_selection_and_scroll_survive_a_change(page: Browser, scene: Play) -> None:
    page.resize(360, 500)
    page.js("document.querySelector('#well-system').open = true")
    page.js("document.querySelector('#facts-gpu summary').focus()")
    page.js("""
        const words = document.querySelector('#well-system li').lastChild;
        getSelection().setBaseAndExtent(words, 2, words, 20);
        document.querySelector('#facts-gpu summary').scrollIntoView();
    """)
    selected = page.js("String(getSelection())")
    assert len(selected) == 18
    top = page.js("scrollY")
    assert top > 0
    renewed(page, 2)
    assert page.js("scrollY") == top
    scene("unhealthy")
    page.until("document.getElementById('host').dataset.status === 'unhealthy'")
    renewed(page)
    assert page.js("document.activeElement.closest('details').id") == "facts-gpu"
    assert page.js("document.querySelector('#well-system').open")
    assert not page.js("document.querySelector('#facts-system').open")
    assert page.js("String(getSelection())") == selected


@pytest.mark.parametrize("probe", ["gpu", "system"])
def test_focus_stays_on_a_card_while_cards_change_places(page: Browser, daemon: Running, probe: str) -> None:
    order = "[...document.querySelectorAll('h2 a')].map((one) => one.innerText).join()"
    page.js(f"document.querySelector('#probe-{probe} h2 a').focus()")
    steer(daemon.folder, "system", {"findings": [finding("disk", "unhealthy", "full")]})
    page.until(f"{order} === 'system,gpu,model'")
    assert page.js("document.activeElement.innerText") == probe
    steer(daemon.folder, "system", WELL_SYSTEM)
    page.until(f"{order} === 'gpu,model,system'")
    assert page.js("document.activeElement.innerText") == probe


def test_a_selection_that_ends_in_a_growing_age_stays(browser: Browser, start: Start) -> None:
    with start(interval=60) as daemon:
        browser.go(url(daemon))
        age = "document.querySelector('#checks-gpu .age')"
        first = seconds_selected(
            browser.js(f"""
                const age = {age};
                getSelection().setBaseAndExtent(age.parentElement, 0, age.firstChild, age.firstChild.length);
                String(getSelection())
            """)
        )
        browser.until(f"parseInt({age}.innerText) > {first + 1}")
        assert seconds_selected(browser.js("String(getSelection())")) > first


def seconds_selected(selection: str) -> int:
    """The age in *selection*, which must be all of it with the word before."""
    found = re.fullmatch(r"checked (\d+) s", selection)
    assert found, selection
    return int(found[1])


def test_ages_grow_and_unchanged_pages_are_not_sent_again(browser: Browser, start: Start) -> None:
    with start(interval=60) as daemon:
        browser.go(url(daemon))
        age = "parseInt(document.querySelector('#checks-gpu .age').innerText)"
        before = browser.js(age)
        browser.until(f"{COUNT_ASKED} > 1")
        browser.until(f"{age} >= {before + 3}")
        entries = browser.js("performance.getEntriesByType('resource').map((one) => one.responseStatus)")
        assert entries[0] == 200
        assert set(entries[1:]) == {304}


def test_a_hidden_page_asks_nothing_and_does_not_claim_to_be_current(page: Browser) -> None:
    renewed(page)
    page.js("""
        window.asked = 0;
        const really = fetch;
        window.fetch = (...what) => { asked += 1; return really(...what); };
        0
    """)
    page.js(HIDE % "true")
    page.until("!asking")  # an answer that was on its way has come
    asked = page.js("asked")
    assert page.js("document.title").startswith("paused")
    page.js("new Promise((done) => setTimeout(done, 2 * EVERY + 500))")
    assert page.js("asked") == asked
    at_once, title, asked_then = page.js(f"""(async () => {{
        {HIDE % "false"}
        const atOnce = asking;
        while (asking) {PAUSE}
        return [atOnce, document.title, asked];
    }})()""")
    assert at_once
    assert title.startswith("healthy")
    assert asked_then == asked + 1
    assert page.js("news.textContent") == ""


def test_the_reader_can_pause_it(page: Browser, scene: Play) -> None:
    page.js("document.querySelector('button').focus()")
    page.press("Enter")
    assert page.text("#renewal").startswith("Paused: all below is as of 2")
    assert page.text("h1").endswith("was HEALTHY")
    scene("unhealthy")
    page.js("new Promise((done) => setTimeout(done, EVERY + 500))")
    assert page.text("h1").endswith("was HEALTHY")
    page.press("Enter")
    page.until("document.getElementById('host').dataset.status === 'unhealthy'")
    assert page.text("#renewal") == "Live: renewed every 2 s. Pause"


def test_nothing_moves_when_readings_come(page: Browser) -> None:
    page.js(OPEN_ALL)
    page.until("Number(document.querySelector('#checks-gpu figcaption').innerText.match(/\\d+/)[0]) > 10")
    page.js("""
        window.moved = 0;
        new PerformanceObserver((list) => list.getEntries().forEach((one) => { moved += one.value }))
            .observe({type: 'layout-shift'});
    """)
    renewed(page, 3)
    assert page.js("moved") == 0


def test_nothing_is_loaded_but_the_page_itself(page: Browser, daemon: Running) -> None:
    renewed(page, 2)
    assert set(page.asked) == {url(daemon)}


def test_what_a_probe_says_is_never_run(page: Browser, daemon: Running) -> None:
    evil = "<img src=x onerror='window.hacked=1'><script>window.hacked=1</script>"
    steer(daemon.folder, "gpu", {"findings": [finding(evil, "degraded", evil, evil)], "facts": {evil: evil}})
    page.until("document.querySelector('#probe-gpu').innerText.includes('onerror')")
    assert page.js("typeof hacked") == "undefined"
    assert page.js("document.querySelectorAll('img, script').length") == 1


@pytest.mark.parametrize("name", SCENES)
def test_it_fits_a_phone_and_has_contrast_by_day_and_by_night(
    browser: Browser, daemon: Running, scene: Play, name: str
) -> None:
    scene(name)
    for width in (320, 360, 1600):
        browser.resize(width)
        browser.go(url(daemon))
        browser.js(f"{OPEN_ALL}; {MEASURE} window.measure = measure; 0")
        assert browser.js("measure.tooWide()") == []
        assert browser.js("measure.tooSmall()") == []
        for scheme in ("light", "dark"):
            browser.prefer(prefers_color_scheme=scheme)
            for state in ("live", "silent", "paused"):
                browser.js(f"document.body.dataset.state = '{state}'")
                assert browser.js("measure.tooFaint()") == []


def test_the_day_is_known_right_after_a_restart(browser: Browser, start: Start, tmp_path: Path) -> None:
    with start() as daemon:
        play(tmp_path, "unhealthy")
        daemon.until("/health/", lambda reported: reported["status"] == "unhealthy")
        daemon.stop()
    with start() as daemon:
        daemon.until("/health/", lambda reported: reported["status"] == "healthy")
        browser.go(url(daemon))
        parts = browser.js("[...document.querySelectorAll('.part')].map((one) => one.textContent.trim())")
    assert "not known" in parts[0], "before the first start"
    before = [part for part in parts if "unhealthy" in part]
    causes = [part for part in before if re.search(r" unhealthy: \S", part)]  # of whatever probe was first
    assert causes
    stopped = next(place for place, part in enumerate(parts) if "mlopsd was stopped" in part)
    assert parts.index(before[-1]) < stopped < len(parts) - 1
    assert "healthy" in parts[-1]
    assert "unhealthy" not in parts[-1]


def test_text_without_spaces_does_not_widen_it(page: Browser, daemon: Running) -> None:
    long = "x" * 3000
    steer(daemon.folder, "gpu", {"findings": [finding(long, "degraded", long, long)], "facts": {long: long}})
    page.resize(360)
    page.until("document.querySelector('#probe-gpu').innerText.includes('xxxx')")
    assert page.js(f"{OPEN_ALL}; {MEASURE} measure.tooWide()") == []


def test_without_scripts_all_is_there_and_nothing_claims_to_renew(
    browser: Browser, daemon: Running, scene: Play
) -> None:
    scene("degraded")
    browser.tell("Emulation.setScriptExecutionDisabled", value=True)
    browser.go(url(daemon))
    shown = browser.text("body")
    for output in (
        "reload it",
        "is DEGRADED",
        "Advice: watch",
        "Desired version 7",
        "Served version 6",
        "In progress fetch of version 7",
        "3 GB of 10 GB (30%)",
        "Rejected version 8: accuracy 0.71 is below 0.8",
        "2 healthy findings",
        "newest degraded",
    ):
        assert output in shown
    assert "Live" not in shown
    assert browser.js("document.querySelectorAll('button').length") == 0
    assert browser.js("document.querySelector('progress').value") == 0.3


def test_it_is_used_by_keyboard_in_the_order_of_reading_with_the_focus_in_sight(page: Browser) -> None:
    seen: list[str] = []
    while len(seen) < 7:
        page.press("Tab")
        found, in_sight = page.js("""(() => {
            const place = document.activeElement.getBoundingClientRect();
            const {outlineStyle, outlineWidth} = getComputedStyle(document.activeElement);
            const inSight = place.left >= 0 && place.width > 2;
            const text = document.activeElement.innerText ?? 'a part of the day';
            return [text, inSight && outlineStyle === 'solid' && parseInt(outlineWidth) >= 2];
        })()""")
        assert in_sight, found
        seen += [] if found == "a part of the day" else [re.sub(r"^checked .*", "checked", found)]
    first = ["Skip to the probes", "Pause", "gpu"]
    assert seen == [*first, "4 healthy findings", "9 facts", "checked", "model"]
    page.press("Space")
    page.js("document.querySelector('.skip').focus()")
    page.press("Enter")
    page.press("Tab")
    assert page.js("document.activeElement.innerText") == "gpu"


def tree(browser: Browser) -> list[tuple[str, str, dict[str, Any]]]:
    """Role, name and properties of all that assistive technology is told of."""
    nodes = browser.tell("Accessibility.getFullAXTree")["nodes"]
    return [
        (
            node["role"]["value"],
            node.get("name", {}).get("value", ""),
            {one["name"]: one["value"].get("value") for one in node.get("properties", ())}
            | {"value": node.get("value", {}).get("value")},
        )
        for node in nodes
        if not node["ignored"]
    ]


def test_a_screen_reader_gets_the_structure(browser: Browser, daemon: Running, scene: Play) -> None:
    scene("degraded")
    browser.go(url(daemon))
    reported = tree(browser)
    roles = [role for role, _, _ in reported]
    for landmark in ("banner", "main", "contentinfo", "navigation", "region"):
        assert roles.count(landmark) == 1, landmark
    headings = [(name, more["level"]) for role, name, more in reported if role == "heading"]
    assert [level for _, level in headings] == [1, 2, 2, 2]
    assert [name for name, _ in headings[1:]] == ["model degraded", "gpu healthy", "system healthy"]
    (progress,) = [(name, more["value"]) for role, name, more in reported if role == "progressbar"]
    assert progress == ("fetch of version 7", pytest.approx(0.3))
    assert [more["live"] for role, _, more in reported if role == "status"] == ["polite"]
    assert not [role for role in roles if role.lower() in ("image", "img", "svgroot", "graphics-document")]
    assert any("last" in name and "newest degraded" in name for _, name, _ in reported)
    for role, name, _ in reported:
        assert name or role not in (
            "link",
            "button",
            "article",
            "region",
            "navigation",
            "DisclosureTriangle",
        ), role


def test_colours_that_the_system_forces_lose_nothing(page: Browser) -> None:
    page.prefer(forced_colors="active")
    assert page.js("matchMedia('(forced-colors: active)').matches")
    fill, text = page.js("""['.plot path', 'body']
        .map((one) => getComputedStyle(document.querySelector(one)))
        .map((style, index) => index ? style.color : style.fill)""")
    assert fill == text
    assert page.js("parseInt(getComputedStyle(document.getElementById('host')).borderTopWidth)") > 0


def test_on_paper_all_is_unfolded_and_nothing_is_a_button(page: Browser) -> None:
    folded, button = (
        f"document.querySelector('{one}').checkVisibility()" for one in ("#well-gpu li", "button")
    )
    assert not page.js(folded)
    assert page.js(button)
    page.prefer("print")
    assert page.js(folded)
    assert not page.js(button)


def test_nothing_moves_for_a_reader_who_wants_no_motion(page: Browser) -> None:
    page.prefer(prefers_reduced_motion="reduce")
    assert page.js("document.getAnimations().length") == 0


def test_a_probe_that_comes_and_one_that_goes_need_no_reload(browser: Browser, start: Start) -> None:
    with start() as daemon:
        opened(browser, daemon)
        browser.js("document.querySelector('#probe-gpu h2 a').focus()")
        text = daemon.config.read_text("utf-8").replace("[probes.gpu]", "[probes.disk]")
        daemon.config.write_text(text)
        daemon.process.send_signal(signal.SIGHUP)
        browser.until("document.querySelector('#probe-disk') && !document.querySelector('#probe-gpu')")
        assert browser.js("document.activeElement.id") == "probes"
        assert browser.js("mark")
