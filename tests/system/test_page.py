"""The probe's page says what the code does."""

import json

from mlopsd_probes.system.options import SystemOptions
from mlopsd_probes.system.probe import COLLECTORS, SystemProbe

Page = dict[str, list[tuple[str, ...]]]


def written(default: object) -> str:
    """A default as the page writes it."""
    if default is None:
        return "none"
    if isinstance(default, tuple):
        return json.dumps(list(default))
    return f"{default:g}" if isinstance(default, float) else str(default)


def test_the_page_has_every_finding(page: Page) -> None:
    rows = [name for row in page["Findings"] for name in row[0].split()]
    findings = {name for collector in COLLECTORS for name in (collector.name, *collector.findings)}
    assert sorted(rows) == sorted(findings)


def test_the_page_names_every_key_with_the_finding_that_it_is_for(page: Page) -> None:
    named = {key for row in page["Findings"] for key in row[2].split(", ") if key}
    assert named == set(SystemOptions.model_fields)


def test_the_page_has_every_key_with_its_default_its_unit_and_its_reason(page: Page) -> None:
    assert page["Keys"] == [
        (key, written(field.default), extra["unit"], field.description)
        for key, field in SystemOptions.model_fields.items()
        if isinstance(extra := field.json_schema_extra, dict)
    ]


def test_the_page_has_every_metric_with_its_kind_labels_and_help(page: Page) -> None:
    assert page["Metrics"] == [
        (f"mlopsd_system_{metric.name}", metric.kind, ", ".join(metric.labels), metric.help)
        for metric in SystemProbe.metrics
    ]
