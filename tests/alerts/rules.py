"""The alert rules as they are shipped, as values, and a copy with short durations."""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "prometheus"
RULES = FOLDER / "mlopsd.rules.yml"
UNIT_TESTS = FOLDER / "tests" / "mlopsd.rules.test.yml"
LONGEST_DRIFT = "> 1800"  # the one duration that is compared in an expression


@dataclass(frozen=True, slots=True)
class Rule:
    """An alert, or with *record* what is computed for several."""

    name: str
    expr: str
    record: bool
    labels: dict[str, str]
    annotations: dict[str, str]


@cache
def rules() -> tuple[Rule, ...]:
    """All of them, in the order of the file."""
    groups = yaml.safe_load(RULES.read_text("utf-8"))["groups"]
    return tuple(_rule(entry) for group in groups for entry in group["rules"])


def _rule(entry: dict[str, Any]) -> Rule:
    name = entry.get("alert") or entry["record"]
    return Rule(name, entry["expr"], "record" in entry, entry.get("labels", {}), entry.get("annotations", {}))


def alerts() -> dict[str, Rule]:
    """The alerts by name."""
    return {rule.name: rule for rule in rules() if not rule.record}


def shortened() -> str:
    """The rules with nothing to wait for: durations are shortened, and nothing else is changed."""
    text, waits = re.subn(r"^( +for:) \S+$", r"\1 1s", RULES.read_text("utf-8"), flags=re.MULTILINE)
    assert waits == len(alerts())
    text = re.sub(r"^ +keep_firing_for: \S+\n", "", text, flags=re.MULTILINE)
    assert text.count(LONGEST_DRIFT) == 1
    return text.replace(LONGEST_DRIFT, "> 1")
