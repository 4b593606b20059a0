"""What the page says: of the daemon, of the board, of what probes report and count."""

import gzip
import logging
import os
import re
import resource
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aioprometheus.collectors import REGISTRY, Collector, Counter, Gauge, Histogram
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families as text_families

from mlopsd.board import Board
from mlopsd.entry import Terms
from mlopsd.metrics.collectors import SERIES_PER_FAMILY
from mlopsd.metrics.exposition import Dialect, bound_text
from mlopsd.metrics.families import BOARD_FAMILIES, COMPONENTS
from mlopsd.metrics.registry import PAUSE, Metrics, Page
from mlopsd.metrics.samples import FINDINGS_PER_PROBE, SAMPLES_PER_READING
from mlopsd.probe import Advice, Finding, Metric, Reading, Sample, Status
from mlopsd.worker.process import InitMessage, ProcessWorker
from tests import fakes

GOLDEN = Path(__file__).parent / "golden"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
OPENMETRICS = "application/openmetrics-text; version=1.0.0"
TERMS = Terms(interval=15, timeout=5)

TEMPERATURE = Metric("temperature_celsius", "What the sensor says.", unit="celsius", labels=("gpu",))
ERRORS = Metric("ecc_errors_total", "Errors that the card counted.", kind="counter", labels=("gpu", "kind"))
PREDICTIONS = Metric(
    "predictions_total", "Predictions by how they ended.", kind="counter", labels=("result",)
)
LATENCY = Metric(
    "prediction_duration_seconds", "How long they took.", kind="histogram", unit="seconds", buckets=(0.1, 1)
)
VALUES = Metric("prediction_value", "What was predicted.", kind="histogram", buckets=(-1, 0, 1))


@pytest.fixture
async def board() -> AsyncIterator[Board]:
    board = Board(clock=lambda: 100.0, now=lambda: NOON)
    yield board
    board.close()


@pytest.fixture(autouse=True)
def few_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as this process asks, it may have 1024, and could have 4096."""
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (1024, 4096))


@pytest.fixture
def metrics(board: Board) -> Metrics:
    return Metrics(board, "1.2.3")


def reading(*samples: Sample, status: Status = Status.HEALTHY) -> Reading:
    return Reading([Finding("look", status, "looked")], samples)


def lines(metrics: Metrics, start: str = "", accept: str = "") -> list[str]:
    page = metrics.render(accept).body.decode()
    return [line for line in page.splitlines() if line.startswith(start)]


def series(metrics: Metrics, start: str = "mlopsd_gpu") -> list[str]:
    return [line for line in lines(metrics, start) if not line.startswith("#")]


def refused(metrics: Metrics) -> float:
    (line,) = lines(metrics, 'mlopsd_errors_total{component="metrics"}')
    return float(line.split()[-1])


async def busy(board: Board, proc: Path, clock: Callable[[], float] = lambda: 0.0) -> Metrics:
    """A daemon that has seen something of everything; its numbers are fixed."""
    metrics = Metrics(board, "1.2.3", clock, proc)
    metrics.probes.declare("gpu", [TEMPERATURE, ERRORS])
    for name, plugin in (("gpu", "gpu"), ("champion", "model"), ("other", "gpu")):
        board.enrol(name, plugin, TERMS)
    hot = (
        TEMPERATURE.sample(81.5, gpu=0),
        TEMPERATURE.sample(40, gpu=1),
        ERRORS.sample(3, gpu=0, kind="both"),
    )
    board.record("gpu", reading(*hot, status=Status.DEGRADED), 0.25)
    board.record("other", reading(TEMPERATURE.sample(38.0, gpu=7)), 0.5)
    held = metrics.probes.instruments("champion", "model", [PREDICTIONS, LATENCY, VALUES])
    held.counter(PREDICTIONS).inc(result="ok")
    held.histogram(LATENCY).observe(0.25)
    held.histogram(VALUES).observe(-0.5)
    metrics.http_request("GET", "/health/", 200, 0.002)
    metrics.http_request("BREW", "/metrics", 405, 0.5)
    metrics.probes.checked("gpu", "degraded", 0.25)
    metrics.probes.hung("gpu", hung=True)
    metrics.probes.worker_restarted("gpu")
    metrics.loop_lag(0.003)
    metrics.error("web")
    return metrics


def a_proc(folder: Path) -> Path:
    """The folder in procfs of a process that used 1.5 s of CPU time."""
    fields = ["0"] * 50
    fields[11:13], fields[19:22] = ["100", "50"], ["6000", "1048576", "256"]
    (folder / "stat").write_text(f"7 (a ) b) {' '.join(fields)}")
    (folder / "fd").mkdir()
    for number in range(4):
        (folder / "fd" / str(number)).touch()
    return folder


@pytest.mark.parametrize(("name", "accept"), [("metrics.txt", ""), ("metrics.openmetrics.txt", OPENMETRICS)])
async def test_the_page_is_the_golden_one(board: Board, tmp_path: Path, name: str, accept: str) -> None:
    """To write it anew: MLOPSD_WRITE_GOLDEN=1 pytest tests/metrics/test_registry.py; then read the diff."""
    page = (await busy(board, a_proc(tmp_path))).render(accept).body.decode()
    for varies in (r'(?<=python=")[^"]+', r"(?<=process_start_time_seconds )[0-9.]+"):
        page, number = re.subn(varies, "0", page)
        assert number == 1
    if os.environ.get("MLOPSD_WRITE_GOLDEN"):
        (GOLDEN / name).write_text(page)
    assert page == (GOLDEN / name).read_text()


@pytest.mark.parametrize(("parse", "accept"), [(text_families, ""), (openmetrics_families, OPENMETRICS)])
async def test_the_page_is_what_the_registry_holds_and_what_the_board_says(
    board: Board, tmp_path: Path, parse: Any, accept: str
) -> None:
    metrics = await busy(board, a_proc(tmp_path))
    page = metrics.render(accept).body.decode()
    shown = {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in parse(page)
        for sample in family.samples
    }
    held = dict(series for collector in metrics.registry.get_all() for series in held_by(collector))
    assert held.items() <= shown.items()
    assert {name for name, _ in shown.keys() - held.keys()} == {
        *(family.name for family in BOARD_FAMILIES),
        "mlopsd_gpu_temperature_celsius",
        "mlopsd_gpu_ecc_errors_total",
    }


def held_by(collector: Collector) -> Iterator[tuple[tuple[str, frozenset[tuple[str, str]]], float]]:
    """The series of a collector, but for the sum and count of a histogram with a bucket below 0."""
    assert isinstance(collector, Counter | Gauge | Histogram), "the quantiles of a Summary are wrong"
    for labels, value in collector.get_all():
        parts: Any = value if isinstance(value, dict) else {"": value}
        may_fall = any(part < 0 for part in parts if isinstance(part, float))
        for part, number in parts.items():
            le = {"le": bound_text(part)} if isinstance(part, float) else {}
            suffix = "_bucket" if le else f"_{part}" * bool(part)
            if le or not may_fall:
                yield (collector.name + suffix, frozenset({**labels, **le}.items())), number


async def test_both_dialects_hold_the_same_series_and_values(board: Board, tmp_path: Path) -> None:
    metrics = await busy(board, a_proc(tmp_path))
    found = []
    for parse, accept in ((text_families, ""), (openmetrics_families, OPENMETRICS)):
        families = parse(metrics.render(accept).body.decode())
        samples = [(s.name, sorted(s.labels.items()), s.value) for one in families for s in one.samples]
        found.append(sorted(samples))
    assert found[0] == found[1]


async def test_the_registry_is_its_own_and_not_the_global_one(metrics: Metrics) -> None:
    assert not REGISTRY.get_all()
    assert metrics.registry.get("mlopsd_errors_total")


async def test_aioprometheus_books_hold_what_the_page_shows(metrics: Metrics) -> None:
    for _ in range(3):
        metrics.http_request("GET", "/livez", 200, 0.2)
    metrics.render()
    labels = {"method": "GET", "route": "/livez", "status": "200"}
    assert metrics.registry.get("mlopsd_http_requests_total").get(labels) == 3
    assert metrics.registry.get("mlopsd_http_request_duration_seconds").get({"route": "/livez"})["count"] == 3  # type: ignore[index]


async def test_each_status_is_on_the_page_and_one_of_them_holds(board: Board, metrics: Metrics) -> None:
    board.enrol("gpu", "gpu", TERMS)
    assert lines(metrics, "mlopsd_probe_last_check") == []
    board.record("gpu", reading(status=Status.UNHEALTHY), 0.1)
    for name in ("mlopsd_health_status{", 'mlopsd_probe_status{probe="gpu",'):
        assert lines(metrics, name) == [
            f'{name}status="healthy"}} 0',
            f'{name}status="degraded"}} 0',
            f'{name}status="unknown"}} 0',
            f'{name}status="unhealthy"}} 1',
        ]
    assert lines(metrics, "mlopsd_probe_last_check") == [
        f'mlopsd_probe_last_check_timestamp_seconds{{probe="gpu"}} {NOON.timestamp():.0f}'
    ]


async def test_what_is_not_healthy_is_on_the_page_with_its_advice(board: Board, metrics: Metrics) -> None:
    board.enrol("card", "gpu", TERMS)
    hot = Finding("temperature", Status.DEGRADED, "81 °C", "gpu 1", 81, "celsius", 80, Advice.WATCH)
    lost = Finding("gpu_answers", Status.UNHEALTHY, "lost", "gpu 0", advice=Advice.REBOOT)
    well = Finding("fan", Status.HEALTHY, "turns")
    board.record("card", Reading([well, hot, lost, replace(lost, summary="still lost")]), 0.1)
    start = 'mlopsd_probe_finding{probe="card",plugin="gpu",finding='
    assert series(metrics, "mlopsd_probe_finding") == [
        f'{start}"gpu_answers",subject="gpu 0",status="unhealthy",advice="reboot"}} 1',
        f'{start}"temperature",subject="gpu 1",status="degraded",advice="watch"}} 1',
    ]
    assert [line for line in series(metrics, "mlopsd_health_advice") if line.endswith(" 1")] == [
        'mlopsd_health_advice{advice="reboot"} 1'
    ]
    board.record("card", Reading([well]), 0.1)
    assert series(metrics, "mlopsd_probe_finding") == []


async def test_of_too_many_findings_the_worst_are_on_the_page(board: Board, metrics: Metrics) -> None:
    board.enrol("card", "gpu", TERMS)
    many = [Finding("row", Status.DEGRADED, "worn", str(row)) for row in range(FINDINGS_PER_PROBE)]
    board.record("card", Reading([*many, Finding("row", Status.UNHEALTHY, "gone", "last")]), 0.1)
    shown = series(metrics, "mlopsd_probe_finding")
    assert len(shown) == FINDINGS_PER_PROBE
    assert 'subject="last"' in shown[0]


async def test_a_refused_configuration_and_the_end_are_on_the_page(metrics: Metrics) -> None:
    success = "mlopsd_config_last_reload_success_timestamp_seconds"
    began = f"{success} {NOON.timestamp():.0f}"
    assert series(metrics, "mlopsd_config") == ["mlopsd_config_last_reload_successful 1", began]
    metrics.not_configured()
    assert series(metrics, "mlopsd_config") == ["mlopsd_config_last_reload_successful 0", began]
    metrics.configured(NOON + timedelta(seconds=9))
    assert series(metrics, success) == [f"{success} {NOON.timestamp() + 9:.0f}"]
    assert series(metrics, "mlopsd_draining") == ["mlopsd_draining 0"]
    metrics.draining()
    assert series(metrics, "mlopsd_draining") == ["mlopsd_draining 1"]


async def test_a_vanished_subject_is_gone_from_the_next_scrape(board: Board, metrics: Metrics) -> None:
    metrics.probes.declare("gpu", [TEMPERATURE])
    board.enrol("gpu", "gpu", TERMS)
    board.record("gpu", reading(TEMPERATURE.sample(40, gpu=0), TEMPERATURE.sample(41, gpu=1)), 0.1)
    assert len(series(metrics)) == 2
    board.record("gpu", reading(TEMPERATURE.sample(41, gpu=1)), 0.1)
    assert series(metrics) == ['mlopsd_gpu_temperature_celsius{probe="gpu",gpu="1"} 41']
    board.record("gpu", reading(), 0.1)
    assert lines(metrics, "# HELP mlopsd_gpu") == []


async def test_a_probe_that_left_the_board_leaves_the_page(board: Board, metrics: Metrics) -> None:
    metrics.probes.declare("gpu", [TEMPERATURE])
    board.enrol("gpu", "gpu", TERMS)
    board.record("gpu", reading(TEMPERATURE.sample(40, gpu=0)), 0.1)
    assert series(metrics)
    board.forget("gpu")
    assert series(metrics) == []


async def test_a_probe_that_now_uses_another_plugin_leaves_the_family_of_the_old_one(
    board: Board, metrics: Metrics
) -> None:
    for plugin in ("gpu", "fan"):
        metrics.probes.declare(plugin, [TEMPERATURE])
        board.forget("card")
        board.enrol("card", plugin, TERMS)
        board.record("card", reading(TEMPERATURE.sample(40, gpu=0)), 0.1)
        assert series(metrics, "mlopsd_") != []
    assert series(metrics, "mlopsd_gpu") == []
    assert series(metrics, "mlopsd_fan") == ['mlopsd_fan_temperature_celsius{probe="card",gpu="0"} 40']


async def test_forget_probe_drops_its_series_from_every_family(board: Board, tmp_path: Path) -> None:
    metrics = await busy(board, a_proc(tmp_path))
    metrics.probes.checked("champion", "healthy", 0.1)
    metrics.render()
    metrics.probes.worker_restarted("champion")  # not on the page yet
    for name in ("gpu", "champion"):
        board.forget(name)
        metrics.probes.forget(name)
    page = metrics.render().body.decode()
    assert 'probe="gpu"' not in page
    assert 'probe="champion"' not in page
    assert 'probe="other"' in page
    for family in metrics.registry.get_all():
        assert not any("champion" in str(key) for key in family.values)
    metrics.probes.worker_restarted("champion")
    assert lines(metrics, "mlopsd_probe_worker") == ['mlopsd_probe_worker_restarts_total{probe="champion"} 1']


async def test_the_last_of_two_samples_of_one_identity_wins(board: Board, metrics: Metrics) -> None:
    metrics.probes.declare("gpu", [TEMPERATURE, ERRORS])
    board.enrol("gpu", "gpu", TERMS)
    twins = (
        TEMPERATURE.sample(1, gpu=0),
        TEMPERATURE.sample(2, gpu="0"),
        Sample("temperature_celsius", 3.0, (("gpu", 0),)),  # type: ignore[arg-type]
        Sample("ecc_errors_total", 4.0, (("gpu", "0"), ("kind", "x"))),
        Sample("ecc_errors_total", 5.0, (("kind", "x"), ("gpu", "0"))),
    )
    board.record("gpu", reading(*twins), 0.1)
    assert series(metrics) == [
        'mlopsd_gpu_temperature_celsius{probe="gpu",gpu="0"} 3',
        'mlopsd_gpu_ecc_errors_total{probe="gpu",gpu="0",kind="x"} 5',
    ]


@pytest.mark.parametrize(
    "bad",
    [
        Sample("undeclared", 1.0),
        Sample("temperature_celsius", 1.0),
        Sample("temperature_celsius", 1.0, (("card", "0"),)),
        Sample("temperature_celsius", 1.0, (("gpu", "0"), ("gpu", "0"))),
        Sample("temperature_celsius", 1.0, (("gpu", "0"), ("job", "x"))),
        Sample("temperature_celsius", 1.0, "gpu"),  # type: ignore[arg-type]
        Sample("temperature_celsius", 1.0, None),  # type: ignore[arg-type]
        Sample("temperature_celsius", 1.0, [("gpu", "0")]),  # type: ignore[arg-type]
        Sample("prediction_duration_seconds", 1.0),
        Sample("ecc_errors_total", -1.0, (("gpu", "0"), ("kind", "x"))),
        Sample("ecc_errors_total", float("nan"), (("gpu", "0"), ("kind", "x"))),
    ],
)
async def test_a_bad_sample_costs_itself_and_is_counted_once(
    board: Board, metrics: Metrics, bad: Sample
) -> None:
    metrics.probes.declare("gpu", [TEMPERATURE, ERRORS, LATENCY])
    board.enrol("gpu", "gpu", TERMS)
    good = TEMPERATURE.sample(40, gpu=1)
    fine = ERRORS.sample(2, gpu=1, kind="x")
    board.record("gpu", reading(bad, good, bad, fine), 0.1)
    for _ in range(2):
        assert series(metrics) == [
            'mlopsd_gpu_temperature_celsius{probe="gpu",gpu="1"} 40',
            'mlopsd_gpu_ecc_errors_total{probe="gpu",gpu="1",kind="x"} 2',
        ]
        assert refused(metrics) in (1, 2)  # a bad value is of one series, hence once
    before = refused(metrics)
    board.record("gpu", reading(bad, good, bad, fine), 0.1)
    assert refused(metrics) == 2 * before


async def test_other_series_in_the_same_places_are_noticed(board: Board, metrics: Metrics) -> None:
    fans = Metric("fans", "How many.", labels=("gpu",))
    metrics.probes.declare("gpu", [TEMPERATURE, fans])
    board.enrol("gpu", "gpu", TERMS)
    for metric, gpu in ((TEMPERATURE, 0), (TEMPERATURE, 1), (fans, 1)):
        board.record("gpu", reading(metric.sample(2, gpu=gpu)), 0.1)
        assert series(metrics) == [f'mlopsd_gpu_{metric.name}{{probe="gpu",gpu="{gpu}"}} 2']


async def test_a_refusal_is_not_counted_again_when_another_probe_was_checked(
    board: Board, metrics: Metrics
) -> None:
    for probe in ("gpu", "other"):
        board.enrol(probe, "gpu", TERMS)
        board.record(probe, reading(*[Sample("odd", 1.0)] * (probe == "gpu")), 0.1)
        assert refused(metrics) == 1


async def test_a_family_that_takes_the_place_of_another_is_noticed(board: Board, metrics: Metrics) -> None:
    metrics.probes.declare("model", [PREDICTIONS])
    board.enrol("champion", "model", TERMS)
    board.record("champion", reading(PREDICTIONS.sample(7, result="ok")), 0.1)
    assert series(metrics, "mlopsd_model")[0].endswith(" 7")
    held = metrics.probes.instruments("champion", "model", [PREDICTIONS, TEMPERATURE])
    held.counter(PREDICTIONS)
    board.record("champion", reading(TEMPERATURE.sample(8, gpu=0)), 0.1)
    assert series(metrics, "mlopsd_model") == ['mlopsd_model_temperature_celsius{probe="champion",gpu="0"} 8']


async def test_the_name_of_a_series_is_written_once(metrics: Metrics) -> None:
    for component in ("web", "watch"):
        metrics.error(component)
    metrics.render()
    key, _ = metrics._errors._children["web",]
    metrics._errors._children["web",] = key, "kept %s\n"
    metrics.error("watch")
    assert lines(metrics, "kept") == ["kept 1"]
    assert lines(metrics, 'mlopsd_errors_total{component="watch"}')[0].endswith(" 2")


async def test_a_refused_sample_is_logged_once_until_it_was_right_again(
    board: Board, metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    metrics.probes.declare("gpu", [ERRORS])
    board.enrol("gpu", "gpu", TERMS)
    odd = [ERRORS.sample(-number, gpu=0, kind="x") for number in (1, 2, 3)]
    for samples in (odd[:1], odd[1:2], (), odd[2:]):
        board.record("gpu", reading(*samples), 0.1)
        metrics.render()
    assert [record.message for record in caplog.records] == ["sample rejected"] * 2


async def test_more_samples_than_the_limit_are_dropped_and_counted(board: Board, metrics: Metrics) -> None:
    metrics.probes.declare("gpu", [TEMPERATURE])
    board.enrol("gpu", "gpu", TERMS)
    many = [TEMPERATURE.sample(1, gpu=number) for number in range(SAMPLES_PER_READING + 3)]
    board.record("gpu", reading(*many), 0.1)
    assert len(series(metrics)) == SAMPLES_PER_READING
    assert refused(metrics) == 3


async def test_more_series_than_the_limit_are_dropped_and_counted(metrics: Metrics) -> None:
    for number in range(SERIES_PER_FAMILY + 2):
        metrics.http_request("GET", f"/{number}", 200, 0.1)
    assert len(series(metrics, "mlopsd_http_requests")) == SERIES_PER_FAMILY
    assert refused(metrics) == 4  # the counter and the histogram, twice
    for number in range(SERIES_PER_FAMILY + 2):
        metrics.error(f"component {number}")
    assert refused(metrics) == 4 + 2 + len(COMPONENTS)


async def test_counters_and_histograms_of_two_probes_share_a_family(metrics: Metrics) -> None:
    for probe in ("champion", "challenger"):
        held = metrics.probes.instruments(probe, "model", [PREDICTIONS, LATENCY])
        held.counter(PREDICTIONS).inc(2, result="ok")
        held.histogram(LATENCY).observe(0.5)
    assert lines(metrics, "mlopsd_model_predictions_total") == [
        'mlopsd_model_predictions_total{probe="champion",result="ok"} 2',
        'mlopsd_model_predictions_total{probe="challenger",result="ok"} 2',
    ]
    assert len(lines(metrics, "# TYPE mlopsd_model_predictions_total counter")) == 1
    assert lines(metrics, 'mlopsd_model_prediction_duration_seconds_bucket{probe="challenger"') == [
        'mlopsd_model_prediction_duration_seconds_bucket{probe="challenger",le="0.1"} 0',
        'mlopsd_model_prediction_duration_seconds_bucket{probe="challenger",le="1.0"} 1',
        'mlopsd_model_prediction_duration_seconds_bucket{probe="challenger",le="+Inf"} 1',
    ]


def in_a_process(metrics: Metrics, declared: Sequence[Metric]) -> ProcessWorker:
    """The daemon's side of a probe ``champion`` in a child process."""
    opening = InitMessage("champion", "x:y", {}, Path(), logging.INFO, 5)
    instruments = metrics.probes.instruments("champion", "model", declared)
    return ProcessWorker(opening, declared, instruments, lambda: None, logging.getLogger("mlopsd.test"))


async def test_a_probe_in_a_child_process_counts_by_name(metrics: Metrics) -> None:
    duration = "prediction_duration_seconds"
    in_a_process(metrics, [PREDICTIONS, LATENCY])._pass_on(
        {
            "counts": [["predictions_total", [["result", "ok"]], 2]],
            "observations": [[duration, [], 0.5], [duration, [], [[1, 2, 0], 1.5]]],
        }
    )
    assert 'mlopsd_model_predictions_total{probe="champion",result="ok"} 2' in lines(metrics)
    assert f'mlopsd_model_{duration}_count{{probe="champion"}} 4' in lines(metrics)
    assert f'mlopsd_model_{duration}_sum{{probe="champion"}} 2' in lines(metrics)


async def test_what_was_not_declared_cannot_be_counted(metrics: Metrics) -> None:
    held = metrics.probes.instruments("champion", "model", [PREDICTIONS, LATENCY, TEMPERATURE])
    with pytest.raises(
        ValueError, match="does not declare 'ecc_errors_total'; it declares: predictions_total"
    ):
        held.counter(ERRORS)
    with pytest.raises(ValueError, match="is a histogram, not a counter"):
        held.counter(LATENCY)
    with pytest.raises(ValueError, match="is a gauge, not a histogram"):
        held.histogram(TEMPERATURE)
    with pytest.raises(ValueError, match="has the labels"):
        held.counter(PREDICTIONS).inc(outcome="ok")
    worker = in_a_process(metrics, [PREDICTIONS, LATENCY, TEMPERATURE])
    with pytest.raises(KeyError, match="nothing"):
        worker._pass_on({"observations": [["nothing", [], 1]]})
    with pytest.raises(ValueError, match="is a gauge, not a histogram"):
        worker._pass_on({"observations": [["temperature_celsius", [["gpu", "0"]], 1]]})
    with pytest.raises(ValueError, match="has the labels"):
        worker._pass_on({"counts": [["predictions_total", [], 1]]})


@pytest.mark.parametrize("amount", [-1, float("nan"), float("inf"), "1", None, 10**400])
async def test_a_counter_takes_finite_numbers_from_0_up(metrics: Metrics, amount: float) -> None:
    counter = metrics.probes.instruments("champion", "model", [PREDICTIONS]).counter(PREDICTIONS)
    with pytest.raises(ValueError, match="only finite numbers from 0 up"):
        counter.inc(amount, result="ok")
    assert lines(metrics, "mlopsd_model") == []


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
async def test_an_observation_that_is_not_finite_is_dropped_and_counted(
    metrics: Metrics, value: float
) -> None:
    histogram = metrics.probes.instruments("champion", "model", [LATENCY]).histogram(LATENCY)
    histogram.observe(0.5)
    histogram.observe(value)
    assert lines(metrics, "mlopsd_model_prediction_duration_seconds_sum") == [
        'mlopsd_model_prediction_duration_seconds_sum{probe="champion"} 0.5'
    ]
    assert refused(metrics) == 1


async def test_a_counter_that_was_handed_out_is_no_longer_taken_from_readings(
    board: Board, metrics: Metrics
) -> None:
    metrics.probes.declare("model", [PREDICTIONS])
    board.enrol("champion", "model", TERMS)
    board.record("champion", reading(PREDICTIONS.sample(7, result="ok")), 0.1)
    assert series(metrics, "mlopsd_model")[0].endswith(" 7")
    metrics.probes.instruments("champion", "model", [PREDICTIONS]).counter(PREDICTIONS).inc(result="ok")
    assert series(metrics, "mlopsd_model") == [
        'mlopsd_model_predictions_total{probe="champion",result="ok"} 1'
    ]
    assert refused(metrics) == 1


async def test_counting_in_threads_while_the_page_is_made_loses_nothing(metrics: Metrics) -> None:
    interval = sys.getswitchinterval()
    counter = metrics.probes.instruments("champion", "model", [PREDICTIONS]).counter(PREDICTIONS)

    def work(name: str) -> None:
        for number in range(2000):
            counter.inc(result=f"{name}{number % 50}")

    sys.setswitchinterval(1e-6)
    threads = [threading.Thread(target=work, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        metrics.render()
    sys.setswitchinterval(interval)
    counted = [float(line.split()[-1]) for line in series(metrics, "mlopsd_model_predictions_total")]
    assert (len(counted), sum(counted)) == (150, 6000)


async def test_declaring_the_same_again_is_nothing(board: Board, metrics: Metrics) -> None:
    metrics.probes.declare("gpu", [TEMPERATURE, LATENCY])
    metrics.probes.declare("gpu", [LATENCY, TEMPERATURE])
    metrics.probes.declare("GPU", [TEMPERATURE])  # another plugin that means the same by it
    for name, plugin in (("a", "gpu"), ("b", "GPU")):
        board.enrol(name, plugin, TERMS)
        board.record(name, reading(TEMPERATURE.sample(4, gpu=0)), 0.1)
    assert len(series(metrics)) == 2


@pytest.mark.parametrize(
    ("plugin", "metric", "output"),
    [
        ("other-gpu", Metric("temp_celsius", "Not the same."), "plugin 'other-gpu'.*in plugin 'other_gpu'"),
        ("other", Metric("gpu_temp_celsius", "Not the same."), "plugin 'other'.*in plugin 'other_gpu'"),
        (
            "other_gpu",
            Metric("temp_celsius", "Not the same."),
            "of plugin 'other_gpu'.*in plugin 'other_gpu'",
        ),
        ("other_gpu", Metric("faults", "The gauge."), "faults belongs to mlopsd_other_gpu_faults_total"),
        ("probe", Metric("hung", "A stranger."), "plugin 'probe'.*in mlopsd itself"),
        ("http", Metric("requests_total", "A stranger.", kind="counter"), "plugin 'http'.*in mlopsd itself"),
    ],
)
async def test_one_name_cannot_mean_two_things(
    metrics: Metrics, plugin: str, metric: Metric, output: str
) -> None:
    first = (Metric("temp_celsius", "One."), Metric("faults_total", "The counter.", kind="counter"))
    metrics.probes.declare("other_gpu", first)
    with pytest.raises(ValueError, match=output):
        metrics.probes.declare(plugin, [Metric("innocent", "Goes down with it."), metric])
    metrics.probes.declare("other_gpu", [Metric("innocent", "Said otherwise.")])


async def test_what_clashes_is_reported_before_anything_is_declared(metrics: Metrics) -> None:
    status, open_ = Metric("status", "Its own."), Metric("open", "Open.")
    other = Metric("b_open", "Another.")  # mlopsd_a_b_open, as the plugin a_b would call its own
    clashes = metrics.probes.clashes({"probe": (status,), "a_b": (open_,), "a": (other,), "door": (open_,)})
    assert sorted(clashes) == ["a", "probe"]
    assert "mlopsd_probe_status of plugin 'probe': it has labels (probe) here, " in clashes["probe"]
    assert "but labels (probe, status) in mlopsd itself" in clashes["probe"]
    assert " here, but help 'Open.' in plugin 'a_b'; rename one of them" in clashes["a"]
    metrics.probes.declare("a", (other,))  # nobody was given the name


async def test_what_cannot_be_read_of_the_process_is_left_out(
    board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proc = a_proc(tmp_path)
    metrics = Metrics(board, "1.2.3", iter(range(100)).__next__, proc)
    assert len(series(metrics, "process_")) == 6
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (resource.RLIM_INFINITY,) * 2)
    for garbage in ("garbage", "7 (a) " + "x " * 50):
        (proc / "stat").write_text(garbage)
        assert series(metrics, "process_") == ["process_open_fds 3"]


async def test_the_process_is_read_at_most_once_a_second(board: Board, tmp_path: Path) -> None:
    now = [10.0]
    proc = a_proc(tmp_path)
    metrics = Metrics(board, "1.2.3", lambda: now[0], proc)
    for clock, fds in ((10.0, "3"), (10.99, "3"), (11.0, "4")):
        now[0] = clock
        assert series(metrics, "process_open_fds") == [f"process_open_fds {fds}"]
        (proc / "fd" / "4").touch()


async def test_this_process_is_on_the_page(metrics: Metrics) -> None:
    shown = {line.split()[0]: float(line.split()[1]) for line in series(metrics, "process_")}
    assert len(shown) == 6
    assert 0 < shown["process_cpu_seconds_total"] <= time.process_time() + 1
    assert shown["process_resident_memory_bytes"] > 2**20
    assert shown["process_start_time_seconds"] < datetime.now(UTC).timestamp()


async def test_nothing_is_made_again_while_nothing_changed(board: Board, tmp_path: Path) -> None:
    clock = fakes.Clock()
    metrics = await busy(board, a_proc(tmp_path), clock)
    page = metrics.render("", "gzip")
    before = dict(metrics._samples._probes)
    texts = {probe: samples.texts for probe, samples in before.items()}
    assert metrics.render("", "gzip") is page
    metrics.http_request("GET", "/metrics", 200, 0.1)
    clock.now += PAUSE
    assert metrics.render("", "gzip") is not page
    assert all(samples.texts is texts[probe] for probe, samples in metrics._samples._probes.items())
    board.record("other", reading(TEMPERATURE.sample(39, gpu=7)), 0.5)
    metrics.render("", "gzip")
    assert metrics._samples._probes == before
    assert [probe for probe, samples in before.items() if samples.texts is not texts[probe]] == ["other"]


async def test_a_page_that_takes_long_to_write_is_not_written_again_for_each_scrape(board: Board) -> None:
    clock = fakes.Clock()
    metrics = Metrics(board, "1", clock)
    write = metrics._pages._write

    def write_slowly(dialect: Dialect) -> Page:
        clock.now += 3 * PAUSE
        return write(dialect)

    metrics._pages._write = write_slowly  # type: ignore[method-assign]
    page = metrics.render()
    metrics.http_request("GET", "/metrics", 200, 0.1)
    assert metrics.render() is page
    clock.now += PAUSE
    assert metrics.render() is not page


async def test_a_page_is_compressed_once_and_either_form_is_of_the_same_numbers(metrics: Metrics) -> None:
    packed = metrics.render("", "gzip")
    metrics.http_request("GET", "/livez", 200, 0.1)
    plain = metrics.render("", "")
    assert metrics.render("", "gzip") is packed
    assert gzip.decompress(packed.body) == plain.body


async def test_requests_are_written_out_ten_times_a_second_at_most_and_readings_at_once(
    board: Board, tmp_path: Path
) -> None:
    clock = fakes.Clock()
    metrics = await busy(board, a_proc(tmp_path), clock)
    page, shown = metrics.render("", "gzip"), shown_by(metrics)
    metrics.http_request("GET", "/metrics", 200, 0.1)
    clock.now += PAUSE / 2
    assert metrics.render("", "gzip") is page
    assert shown_by(metrics) == shown
    clock.now += PAUSE
    assert shown_by(metrics) - shown == 1
    board.record("other", reading(TEMPERATURE.sample(39, gpu=7)), 0.5)
    assert b'gpu="7"} 39' in gzip.decompress(metrics.render("", "gzip").body)


def shown_by(metrics: Metrics) -> float:
    """How many scrapes the page says there were."""
    found = re.findall(
        r'^mlopsd_http_requests_total{.*route="/metrics".*} (\d+)$', text_of(metrics), re.MULTILINE
    )
    return sum(map(float, found))


def text_of(metrics: Metrics) -> str:
    return metrics.render("", "").body.decode()


async def test_a_reading_that_is_shown_already_leaves_the_samples_alone(
    board: Board, metrics: Metrics
) -> None:
    metrics.probes.declare("gpu", [TEMPERATURE])
    board.enrol("gpu", "gpu", TERMS)
    same = reading(TEMPERATURE.sample(40.5, gpu=0))
    texts = []
    for shown in (same, same, reading(TEMPERATURE.sample(41, gpu=0))):
        board.record("gpu", shown, 0.1)
        metrics.render()
        texts.append(metrics._samples._probes["gpu"].texts)
    assert texts[0] is texts[1] is not texts[2]


async def test_what_was_counted_elsewhere_adds_to_the_buckets_of_one_probe(board: Board) -> None:
    metric = Metric("value", "Numbers.", "histogram", buckets=(0.0, 10.0))
    metrics = Metrics(board, "1")
    wide = replace(metric, buckets=(-5.0, 5.0, 50.0))
    first = metrics.probes.instruments("first", "model", [metric]).histogram(metric)
    second = metrics.probes.instruments("second", "model", [wide]).histogram(wide)
    first.observe_counts([1, 2, 3], 40)
    first.observe(11)
    second.observe_counts([1, 0, 1, 0], 13)
    page = metrics.render().body.decode()
    assert [line for line in page.splitlines() if "_model_value" in line and not line.startswith("#")] == [
        'mlopsd_model_value_bucket{probe="first",le="0.0"} 1',
        'mlopsd_model_value_bucket{probe="first",le="10.0"} 3',
        'mlopsd_model_value_bucket{probe="first",le="+Inf"} 7',
        'mlopsd_model_value_count{probe="first"} 7',
        'mlopsd_model_value_sum{probe="first"} 51',
        'mlopsd_model_value_bucket{probe="second",le="-5.0"} 1',
        'mlopsd_model_value_bucket{probe="second",le="5.0"} 1',
        'mlopsd_model_value_bucket{probe="second",le="50.0"} 2',
        'mlopsd_model_value_bucket{probe="second",le="+Inf"} 2',
    ]


def test_a_sum_beyond_every_float_stays_finite() -> None:
    metric = Metric("value", "Numbers.", "histogram", buckets=(0.0, 10.0))
    metrics = Metrics(Board(), "1")
    histogram = metrics.probes.instruments("first", "model", [metric]).histogram(metric)
    histogram.observe_counts([0, 0, 2], sys.float_info.max)
    histogram.observe(sys.float_info.max)
    assert 'value_sum{probe="first"} 1.7976931348623157e+308\n' in text_of(metrics)


@pytest.mark.parametrize("counts", [[1, 2], [1, 2, 3, 4], [1, 2, -1]])
def test_counts_that_fit_no_buckets_are_refused(counts: list[int]) -> None:
    metric = Metric("value", "Numbers.", "histogram", buckets=(0.0, 10.0))
    histogram = Metrics(Board(), "1").probes.instruments("first", "model", [metric]).histogram(metric)
    with pytest.raises(ValueError, match="3 counts from 0 up"):
        histogram.observe_counts(counts, 1.0)
