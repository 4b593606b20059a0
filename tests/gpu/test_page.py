"""The probe's page says what the code does."""

import json
from pathlib import Path

import pytest

from mlopsd_probes.gpu.card_reading import COLLECTORS
from mlopsd_probes.gpu.options import GpuOptions
from mlopsd_probes.gpu.probe import OWN_FINDINGS, GpuProbe
from mlopsd_probes.gpu.xid_table import XIDS
from tests.documented import Row, tables

PAGE = Path(__file__).parents[2] / "docs/reference/probes/gpu.md"


@pytest.fixture
def page() -> dict[str, list[Row]]:
    """The probe's page."""
    return tables(PAGE)


def written(default: object) -> str:
    """A default as the page writes it."""
    if default is None:
        return "none"
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, tuple):
        return json.dumps(list(default))
    return f"{default:g}" if isinstance(default, float) else str(default)


def test_the_page_has_every_finding(page: dict[str, list[Row]]) -> None:
    rows = [name for row in page["Findings"] for name in row[0].split()]
    findings = {
        *OWN_FINDINGS,
        *(name for collector in COLLECTORS for name in (collector.name, *collector.findings)),
    }
    assert sorted(rows) == sorted(findings)


def test_the_page_names_every_key_with_the_finding_that_it_is_for(page: dict[str, list[Row]]) -> None:
    named = {key for row in page["Findings"] for key in row[2].split(", ") if key}
    assert named == set(GpuOptions.model_fields)


def test_the_page_has_every_key_with_its_default_its_unit_and_its_reason(page: dict[str, list[Row]]) -> None:
    assert page["Keys"] == [
        (key, written(field.default), extra["unit"], field.description)
        for key, field in GpuOptions.model_fields.items()
        if isinstance(extra := field.json_schema_extra, dict)
    ]


def test_the_page_has_every_metric_with_its_kind_labels_and_help(page: dict[str, list[Row]]) -> None:
    assert page["Metrics"] == [
        (f"mlopsd_gpu_{metric.name}", metric.kind, ", ".join(metric.labels), metric.help)
        for metric in GpuProbe.metrics
    ]


def test_the_page_has_every_xid_with_its_text_its_judgement_and_its_advice(
    page: dict[str, list[Row]],
) -> None:
    options = GpuOptions()
    judged = dict.fromkeys(options.xids_unhealthy, "unhealthy") | dict.fromkeys(
        options.xids_degraded, "degraded"
    )
    assert page["XIDs"] == [
        (str(xid), reported.text, judged.get(xid, "counted"), str(reported.advice) if xid in judged else "")
        for xid, reported in XIDS.items()
    ]


def test_every_xid_that_is_judged_by_default_is_explained() -> None:
    options = GpuOptions()
    assert {*options.xids_unhealthy, *options.xids_degraded} <= set(XIDS)
