"""The dashboard's file: what Grafana would refuse or show wrongly, and what it names."""

from itertools import combinations
from typing import Any

import pytest

from tests.alerts.dashboard import dashboard, panels, queries, variables
from tests.alerts.metrics import mistakes

COLUMNS = 24
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}


def shown() -> list[dict[str, Any]]:
    return [panel for panel in panels() if panel["type"] != "row"]


def test_it_has_the_rows_that_an_operator_searches_for() -> None:
    rows = [panel["title"] for panel in panels() if panel["type"] == "row"]
    assert rows == ["Fleet", "Verdict", "Model", "Predictions", "GPU", "System", "Daemon"]
    assert dashboard()["id"] is None, "an import must not overwrite the dashboard that has this number"


def test_no_two_panels_have_one_number() -> None:
    numbers = [panel["id"] for panel in panels()]
    assert len(set(numbers)) == len(numbers)


def test_no_two_panels_lie_upon_each_other() -> None:
    for one, other in combinations([panel["gridPos"] for panel in panels()], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or below, (one, other)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= COLUMNS for panel in panels())


@pytest.mark.parametrize("panel", shown(), ids=lambda panel: panel["title"])
def test_a_panel_says_what_it_shows_in_which_unit(panel: dict[str, Any]) -> None:
    assert panel["description"].endswith(".")
    defaults = panel["fieldConfig"]["defaults"]
    assert defaults["unit"]
    steps = defaults["thresholds"]["steps"]
    assert steps[0]["value"] is None
    assert [step["value"] for step in steps[1:]] == sorted(step["value"] for step in steps[1:])
    assert panel["datasource"] == DATASOURCE
    assert panel["targets"]
    assert all(target["datasource"] == DATASOURCE for target in panel["targets"])
    assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


def test_the_choices_are_datasource_job_host_and_gpu() -> None:
    assert [variable["name"] for variable in variables()] == ["datasource", "job", "instance", "gpu"]


def test_every_query_names_what_a_daemon_exposes() -> None:
    assert [mistakes(query.expression) for query in queries()] == [[]] * len(queries())
