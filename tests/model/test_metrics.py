"""The counters of the model probe begin at 0, for every result."""

import re
from pathlib import Path

from mlopsd_probes.model.metrics import (
    LOAD_RESULTS,
    PREDICTION_RESULTS,
    RESTART_REASONS,
    model_metrics,
    with_buckets,
)
from mlopsd_probes.model.report import REJECTED
from mlopsd_probes.model.serving.active_model import RESULTS
from tests.fakes import Instruments

PAGE = Path(__file__).parents[2] / "docs/reference/probes/model.md"


def test_each_series_is_there_before_it_counts() -> None:
    instruments = Instruments()
    model_metrics(instruments, with_buckets((1.0,)))
    assert instruments.sinks["batching_mismatches_total"].reported == [(0, {})]
    for name, label, values in (
        ("loads_total", "result", LOAD_RESULTS),
        ("predictions_total", "result", PREDICTION_RESULTS),
        ("host_restarts_total", "reason", RESTART_REASONS),
    ):
        assert instruments.sinks[name].reported == [(0, {label: value}) for value in values]


def test_no_way_to_end_is_left_out() -> None:
    assert set(RESULTS.values()) | {"ok", "failed"} == set(PREDICTION_RESULTS)
    assert set(REJECTED) | {"ok", "registry", "no_room", "given_up"} == set(LOAD_RESULTS)
    text = PAGE.read_text("utf-8")
    (row,) = re.findall(r"^\| `result` \| `loads_total` \|(.*)$", text, re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", row)) == set(LOAD_RESULTS)
    (row,) = re.findall(r"^\| `reason` \| `host_restarts_total` \|(.*)$", text, re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", row)) == set(RESTART_REASONS)
