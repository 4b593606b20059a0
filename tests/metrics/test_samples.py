"""What probes may report without costing the scrape: each trap comes back as it went in."""

import asyncio
import math
import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families as text_families

from mlopsd.board import Board
from mlopsd.entry import Terms
from mlopsd.metrics.exposition import Dialect
from mlopsd.metrics.families import Family
from mlopsd.metrics.registry import Metrics
from mlopsd.probe import Finding, Metric, Reading, Sample, Status

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
PROMTOOL = shutil.which("promtool")
pytestmark = pytest.mark.needs("promtool")
LABEL_TRAPS = [
    'a "quoted" one',
    "two\nlines",
    "carriage\rreturn",
    "back\\slash",
    "C:\\new",
    "ends in a backslash\\",
    'x"} 1\nfake{b="y',
    "100% of %s and %(name)s",
    "{curly}",
    "a,b=c",
    "",
    " blanks ",
    "größer 温度 🔥",
    "\u2028 \x0b \x85 \x1f",
]
HELP_TRAPS = [
    "two\nlines",
    "back\\slash",
    'a "quoted" one',
    "\\n is no newline",
    "größer 温度",
    "100 %s",
    "ends in 1.0",
]
NUMBERS = [
    (0.1 + 0.2, 0.1 + 0.2),
    (5.0, 5.0),
    (-0.5, -0.5),
    (7, 7.0),
    (True, 1.0),
    (2**53 - 1, float(2**53 - 1)),
    (2**64 + 1, float(2**64 + 1)),
    (1e300, 1e300),
    (5e-324, 5e-324),
    (math.inf, math.inf),
    (-math.inf, -math.inf),
    (math.nan, math.nan),
]
NO_NUMBERS = [None, "12 34", "12", b"12", 10**400, [1.0], 1j, object()]
Shown = list[tuple[str, dict[str, str], float, str]]


def page_of(*samples: Sample, metrics: tuple[Metric, ...], counted: str | None = None) -> tuple[str, str]:
    """The page in both dialects, of one probe with these samples; *counted* goes through an instrument."""

    async def make() -> tuple[str, str]:
        board = Board()
        board.enrol("p", "trap", Terms(interval=15, timeout=5))
        page = Metrics(board, "0")
        page.probes.declare("trap", metrics)
        board.record("p", Reading([Finding("x", Status.HEALTHY, "x")], samples), 0.1)
        if counted is not None:
            page.probes.instruments("p", "trap", metrics).counter(COUNTED).inc(what=counted)
        board.close()
        return page.render().body.decode(), page.render(OPENMETRICS).body.decode()

    return asyncio.run(make())


def shown_in(page: str, dialect: Dialect) -> Shown:
    """The families of the probe on *page*, as the reference parser reads them."""
    parse = openmetrics_families if dialect is Dialect.OPENMETRICS else text_families
    return [
        (sample.name, sample.labels, sample.value, family.documentation)
        for family in parse(page)
        for sample in family.samples
        if sample.name.startswith(("mlopsd_trap", "fake"))
    ]


def read_back(pages: tuple[str, str]) -> Shown:
    """What both reference parsers read, which is the same."""
    text, openmetrics = (shown_in(page, dialect) for page, dialect in zip(pages, Dialect, strict=True))
    assert repr(text) == repr(openmetrics)  # NaN is not NaN
    return text


def lint(page: str) -> None:
    assert PROMTOOL, "promtool is missing; install prometheus"
    ran = subprocess.run(
        [PROMTOOL, "check", "metrics"], input=page.encode(), capture_output=True, check=False
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, b"", b"")


LABELLED = Metric("thing", "A thing.", labels=("what",))
COUNTED = Metric("things_total", "Things.", kind="counter", labels=("what",))


@pytest.mark.parametrize("value", LABEL_TRAPS)
def test_a_label_value_comes_back_as_it_went_in(value: str) -> None:
    pages = page_of(LABELLED.sample(1.5, what=value), metrics=(LABELLED, COUNTED), counted=value)
    assert read_back(pages) == [
        ("mlopsd_trap_thing", {"probe": "p", "what": value}, 1.5, "A thing."),
        ("mlopsd_trap_things_total", {"probe": "p", "what": value}, 1.0, "Things."),
    ]
    lint(pages[0])


@pytest.mark.parametrize("value", LABEL_TRAPS)
def test_a_label_value_of_a_histogram_comes_back_as_it_went_in(value: str) -> None:
    taken = Metric("took_seconds", "Time.", kind="histogram", unit="seconds", labels=("what",), buckets=(1,))

    async def make() -> tuple[str, str]:
        page = Metrics(Board(), "0")
        page.probes.instruments("p", "trap", [taken]).histogram(taken).observe(0.5, what=value)
        return page.render().body.decode(), page.render(OPENMETRICS).body.decode()

    pages = asyncio.run(make())
    assert [labels["what"] for _, labels, _, _ in read_back(pages)] == [value] * 4
    lint(pages[0])


@pytest.mark.parametrize("text", HELP_TRAPS)
def test_a_help_text_comes_back_as_it_went_in(text: str) -> None:
    output = Metric("thing", text)
    pages = page_of(output.sample(1), metrics=(output,))
    assert read_back(pages) == [("mlopsd_trap_thing", {"probe": "p"}, 1.0, text)]
    lint(pages[0])


@pytest.mark.parametrize(("value", "read"), NUMBERS)
def test_a_number_comes_back_exactly(value: float, read: float) -> None:
    pages = page_of(
        LABELLED.sample(3, what="before"),
        Sample("thing", value, (("what", "it"),)),
        LABELLED.sample(4, what="after"),
        metrics=(LABELLED,),
    )
    assert repr([float(value) for _, _, value, _ in read_back(pages)]) == repr([3.0, read, 4.0])
    lint(pages[0])


@pytest.mark.parametrize("value", NO_NUMBERS)
def test_what_is_no_number_costs_its_own_line(value: float) -> None:
    pages = page_of(
        Sample("thing", value, (("what", "it"),)), LABELLED.sample(4.0, what="after"), metrics=(LABELLED,)
    )
    assert [(labels["what"], value) for _, labels, value, _ in read_back(pages)] == [("after", 4.0)]
    assert 'mlopsd_errors_total{component="metrics"} 1\n' in pages[0]
    lint(pages[0])


def test_a_float_of_another_class_is_written_as_a_number() -> None:
    class Celsius(float):
        def __repr__(self) -> str:
            return f"{float(self)} °C"

    pages = page_of(Sample("thing", Celsius(4.5), (("what", "it"),)), metrics=(LABELLED,))
    assert [value for _, _, value, _ in read_back(pages)] == [4.5]


def test_a_path_that_is_not_utf8_is_spelt_out_and_costs_nothing() -> None:
    name = b"/mnt/\xff".decode("utf-8", "surrogateescape")
    pages = page_of(LABELLED.sample(1, what=name), metrics=(LABELLED, COUNTED), counted=name)
    assert [labels["what"] for _, labels, _, _ in read_back(pages)] == ["/mnt/\\udcff"] * 2
    lint(pages[0])


def test_whole_numbers_are_written_without_a_point_and_keep_their_sign() -> None:
    page, _ = page_of(
        LABELLED.sample(-0.0, what="-"),
        LABELLED.sample(2**52, what="1.0"),
        LABELLED.sample(1e22, what="b"),
        metrics=(LABELLED,),
    )
    assert 'what="1.0"} 4503599627370496\n' in page
    assert 'what="b"} 1e+22\n' in page
    assert 'what="-"} -0\n' in page  # Go reads -0; Python's parser takes it for an integer


@pytest.mark.parametrize(("value", "text"), [(math.nan, "NaN"), (math.inf, "+Inf"), (-math.inf, "-Inf")])
def test_what_is_not_finite_is_written_as_prometheus_writes_it(value: float, text: str) -> None:
    page, _ = page_of(LABELLED.sample(value, what="it"), metrics=(LABELLED,))
    assert f'what="it"}} {text}\n' in page


@settings(max_examples=150, deadline=None)
@given(st.lists(st.text(), max_size=4, unique=True), st.floats(allow_nan=False))
def test_any_label_value_and_any_number_come_back(values: list[str], number: float) -> None:
    samples = [LABELLED.sample(number, what=value) for value in values]
    shown = read_back(page_of(*samples, metrics=(LABELLED,)))
    assert [(labels["what"], value) for _, labels, value, _ in shown] == [(value, number) for value in values]


@settings(max_examples=150, deadline=None)
@given(st.text(min_size=1).filter(lambda text: text == text.strip()))
def test_any_help_text_comes_back(text: str) -> None:
    output = Metric("thing", text)
    assert [found for *_, found in read_back(page_of(output.sample(1), metrics=(output,)))] == [text]


def test_a_family_whose_help_is_empty_has_no_help_line() -> None:
    header = Family("mlopsd_trap_thing", "").header(Dialect.TEXT)
    assert header == "# TYPE mlopsd_trap_thing gauge\n"
