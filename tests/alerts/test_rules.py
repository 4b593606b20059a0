"""The shipped rules: sound by promtool, each alert tried, explained, and about what there is."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlopsd.probe import Advice
from tests.alerts.metrics import mistakes
from tests.alerts.rules import FOLDER, ROOT, RULES, UNIT_TESTS, Rule, alerts, rules

RUNBOOK = ROOT / "docs/operations/runbook.md"
LABEL_OF_A_FINDING = re.compile(r"mlopsd_probe_finding\{([^}]*)\}")
ADVICE = {str(advice) for advice in Advice}
OF_THE_WATCH = {"timeout", "stuck", "died", "cannot_tell", "nonsense", "error", "stale"}


def promtool(*arguments: str | Path) -> str:
    done = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.needs("promtool")
def test_promtool_takes_the_rules_and_the_example_that_loads_them() -> None:
    assert f"{len(rules())} rules found" in promtool("check", "rules", RULES)
    assert "1 rule files found" in promtool("check", "config", FOLDER / "prometheus.yml")


@pytest.mark.needs("promtool")
@pytest.mark.timeout(180)
def test_every_alert_fires_in_its_time_and_not_before_and_none_on_a_well_host() -> None:
    assert "SUCCESS" in promtool("test", "rules", UNIT_TESTS)


def test_every_alert_has_a_firing_case_of_its_own() -> None:
    cases: list[dict[str, Any]] = yaml.safe_load(UNIT_TESTS.read_text("utf-8"))["tests"]
    for name in alerts():
        of_it = [case for case in cases if case["name"] == name]
        assert of_it, f"{name} is not tried"
        for case in of_it:
            before, after = (asked["exp_samples"] for asked in case["promql_expr_test"])
            assert before == []
            assert f'alertname="{name}"' in after[0]["labels"]


@pytest.mark.parametrize("alert", list(alerts().values()), ids=lambda alert: alert.name)
def test_an_alert_says_who_must_act_and_where_it_stands(alert: Rule) -> None:
    assert alert.labels["severity"] in ("page", "ticket")
    assert set(alert.annotations) == {"summary", "description", "advice", "runbook_url"}
    assert alert.annotations["runbook_url"] == f"docs/operations/runbook.md#{alert.name.lower()}"
    reported = alert.annotations["advice"]
    if "{{" in reported:
        assert "advice" in reported
    else:
        assert reported == alert.labels["advice"]
        assert reported in ADVICE


def test_alerts_and_the_runbook_name_each_other() -> None:
    sections = re.findall(r"^### (\w+)$", RUNBOOK.read_text("utf-8"), re.MULTILINE)
    assert [name for name in sections if name.startswith("Mlopsd")] == list(alerts())


@pytest.mark.parametrize("name", list(alerts()))
def test_a_section_of_the_runbook_is_whole(name: str) -> None:
    (section,) = re.findall(rf"^### {name}$\n(.*?)(?=^##|\Z)", RUNBOOK.read_text("utf-8"), re.S | re.M)
    for part in ("**Means**", "**Look**", "**Do**", "**Ends**"):
        assert part in section, part
    assert f"`{alerts()[name].labels['severity']}`" in section


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.name)
def test_a_rule_names_what_a_daemon_exposes(rule: Rule) -> None:
    assert mistakes(" ".join([rule.expr, *rule.annotations.values()])) == []


@pytest.mark.parametrize("alert", list(alerts().values()), ids=lambda alert: alert.name)
def test_an_alert_names_findings_that_there_are(alert: Rule) -> None:
    for matchers in LABEL_OF_A_FINDING.findall(alert.expr):
        wanted = dict(re.findall(r'(\w+)=~?"([^"]*)"', matchers))
        if "finding" not in wanted:  # any of the plugin
            continue
        if "plugin" not in wanted:
            assert set(wanted["finding"].split("|")) <= OF_THE_WATCH
            continue
        known = documented(wanted["plugin"]) | OF_THE_WATCH
        assert set(wanted["finding"].split("|")) <= known


def documented(plugin: str) -> set[str]:
    """The findings in the document of *plugin*, which its own tests compare with the code."""
    text = (ROOT / "docs/reference/probes" / f"{plugin}.md").read_text("utf-8")
    (section,) = re.findall(r"^## Findings$\n(.*?)(?=^## )", text, re.S | re.M)
    return {
        name for row in re.findall(r"^\| ([^|]*) \|", section, re.M) for name in re.findall(r"`(\w+)`", row)
    }


def test_what_names_nothing_would_be_found() -> None:
    assert mistakes('rate(mlopsd_gpu_temprature_celsius[5m]) > mlopsd_draining{hots="x"}') == [
        "mlopsd_gpu_temprature_celsius",
        "mlopsd_draining{hots}",
    ]
