"""The rows of GPUs and models and the strip of the day, in a real browser, in each status of a host."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.page.browser import Browser
from tests.page.filled import MODELS, STATES, filled_host
from tests.page.test_page import MEASURE, OPEN_ALL

pytestmark = pytest.mark.needs("chromium")
ROWS = (
    "[...document.querySelectorAll('%s tbody tr')].map((one) => one.innerText.replace(/\\s+/g, ' ').trim())"
)
SHOWN = (
    "[...document.querySelectorAll('.cause')].filter((one) => one.checkVisibility())"
    ".map((one) => one.innerText)"
)


@pytest.fixture
def open_page(browser: Browser, tmp_path: Path) -> Iterator[Any]:
    """Opens the page of a host in a status."""
    hosts = []

    def open_page(state: str, **tables: Any) -> Browser:
        host = filled_host(tmp_path / state, state, **tables)
        hosts.append(host)
        browser.go(host.__enter__())
        return browser

    yield open_page
    for host in hosts:
        host.__exit__(None, None, None)


@pytest.mark.parametrize("state", STATES)
def test_the_rows_fit_every_width_and_have_contrast(open_page: Any, state: str) -> None:
    page = open_page(state)
    page.js(f"{OPEN_ALL}; {MEASURE} window.measure = measure; 0")
    for width in (320, 360, 1024, 1600):
        page.resize(width)
        assert page.js("measure.tooWide()") == [], width
        assert page.js("measure.tooSmall()") == []
        for scheme in ("light", "dark"):
            page.prefer(prefers_color_scheme=scheme)
            assert page.js("measure.tooFaint()") == []
    assert page.js("document.querySelector('#host').dataset.status") == state
    assert page.complaints == []


def test_each_gpu_has_a_row_with_its_numbers_its_model_and_its_faults(open_page: Any) -> None:
    page = open_page("unhealthy")
    rows = page.js(ROWS % "#table-gpu")
    assert [row.split()[:2] for row in rows] == [["gpu", str(number)] for number in range(8)]
    assert "models:/churn/7" in rows[0]
    for output in ("%", "of 85.9 GB", "of 89 °C", "of 400 W", "healthy"):
        assert output in rows[0], rows[0]
    assert "xid 79" in rows[3]
    assert " of " not in rows[3], "a lost card has no number"
    assert "ecc uncorrected" in rows[6]
    assert "healthy" not in rows[3] + rows[6]
    first = "document.querySelector('#table-gpu tbody tr')"
    assert page.js(f"{first}.querySelectorAll('.bar').length") == 4
    assert page.js(f"{first}.querySelectorAll('.spark').length") == 4


def test_each_model_has_a_row_with_its_version_and_its_predictions(open_page: Any) -> None:
    page = open_page("healthy")
    rows = dict(zip(MODELS, page.js(ROWS % "#models"), strict=True))
    for output in ("churn 7 @champion, since 2", "/s", "ms", "healthy"):
        assert output in rows["churn"]
    assert " 1 " in rows["fraud"], "the one that failed"
    assert page.js("document.querySelectorAll('#models .spark').length") == 8
    page = open_page("unknown")
    assert "none in service" in page.js(ROWS % "#models")[1]


def test_without_scripts_the_same_rows_and_causes_are_there(browser: Browser, open_page: Any) -> None:
    with_scripts = open_page("unhealthy").js(ROWS % "#table-gpu")
    browser.tell("Emulation.setScriptExecutionDisabled", value=True)
    page = open_page("unhealthy")
    assert page.js(ROWS % "#table-gpu") == with_scripts
    assert len(page.js(SHOWN)) == 1
    assert page.js("document.querySelectorAll('button').length") == 0
    assert "UTC" in page.text("#day")


def test_a_cause_is_shown_on_focus_and_on_hover_and_else_the_last_one(open_page: Any) -> None:
    page = open_page("unhealthy")
    (last,) = page.js(SHOWN)
    assert "gpu 3" in last
    seen = []
    while page.js("document.activeElement.nodeName !== 'rect'"):
        page.press("Tab")
    while page.js("document.activeElement.nodeName === 'rect'"):
        (cause,) = page.js(SHOWN)
        seen.append(cause)
        outline = page.js("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid"
        page.press("Tab")
    statuses = [cause.split()[0] for cause in seen]
    assert statuses[0] == "degraded"
    assert statuses[2:] == ["unhealthy", "unknown", "unhealthy"]
    assert "86 °C" in seen[0]
    assert "mlopsd was stopped" in seen[1]
    page.js("document.activeElement.blur()")
    place = page.js("""(() => {
        const place = document.querySelector('.part.degraded rect').getBoundingClientRect();
        return [place.left + place.width / 2, place.top + place.height / 2];
    })()""")
    page.tell("Input.dispatchMouseEvent", type="mouseMoved", x=place[0], y=place[1])
    page.until(f"{SHOWN}.length === 1 && {SHOWN}[0].includes('86 °C')")
    page.tell("Input.dispatchMouseEvent", type="mouseMoved", x=0, y=0)


def test_times_are_the_readers_own_with_utc_on_hover(browser: Browser, open_page: Any) -> None:
    browser.tell("Emulation.setTimezoneOverride", timezoneId="Asia/Kolkata")
    try:
        page = open_page("unhealthy")
        local, utc, moment = page.js("""(() => {
            const time = document.querySelector('#host time');
            return [time.innerText, time.title, Date.parse(time.dateTime) / 1000];
        })()""")
        assert utc.endswith(" UTC")
        assert local != utc.removesuffix(" UTC")
        shown = page.js(f"new Date('{local}+05:30').getTime() / 1000")
        assert shown == int(moment)
        assert "Asia/" in page.text("#zone")
    finally:
        browser.tell("Emulation.setTimezoneOverride", timezoneId="")


def test_a_command_is_copied_and_nothing_is_asked_of_the_daemon(open_page: Any) -> None:
    page = open_page("unhealthy")
    page.js("""
        window.copied = [];
        const clipboard = {writeText: async (text) => { copied.push(text) }};
        Object.defineProperty(navigator, 'clipboard', {value: clipboard});
        document.querySelector('button.copy').click();
    """)
    page.until("copied.length")
    assert page.js("copied") == ["mlopsd status"]
    page.until("news.textContent === 'Copied mlopsd status.'")
    assert page.js("document.querySelectorAll('form').length") == 0
    assert len(set(page.asked)) == 1


def test_the_runbook_is_a_link_where_the_configuration_names_it(open_page: Any) -> None:
    assert "runbook: MlopsdHostDegraded" in open_page("degraded").text("#host")
    page = open_page("unhealthy", api={"runbook_url": "https://wiki.example/runbook"})
    link = page.js("document.querySelector('#host a').href")
    assert link == "https://wiki.example/runbook#mlopsdhostunhealthy"


@pytest.mark.parametrize("state", STATES)
def test_no_third_of_a_wide_screen_is_empty(open_page: Any, state: str) -> None:
    page = open_page(state)
    page.resize(1600)
    page.js("0")
    right = page.js("""(() => {
        const lines = new Map();
        for (const one of document.querySelectorAll('#probes > *')) {
            const {top, right} = one.getBoundingClientRect();
            lines.set(top, Math.max(lines.get(top) ?? 0, right));
        }
        return [...lines.values()];
    })()""")
    assert min(right) > 1600 * 0.97


def test_what_is_bad_comes_first_and_what_is_well_is_folded(open_page: Any) -> None:
    page = open_page("unhealthy")
    order = page.js("[...document.querySelector('#probes').children].map((one) => one.id)")
    assert order == ["probe-gpu", "models", "table-gpu", "probe-churn", "probe-fraud", "probe-system"]
    assert not page.js("document.querySelector('#well-system li').checkVisibility()")
    assert not page.js("document.querySelector('#versions-churn dl').checkVisibility()")
    assert page.js("document.querySelector('#probe-gpu .findings li').checkVisibility()")
