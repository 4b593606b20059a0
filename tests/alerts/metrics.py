"""What a daemon can expose, by what its parts declare; and what an expression names."""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from mlopsd.metrics.families import BOARD_FAMILIES, FAMILIES, PROCESS_FAMILIES, Family, family_of
from mlopsd.probe import Probe
from mlopsd_probes.gpu.probe import GpuProbe
from mlopsd_probes.model.probe import ModelProbe
from mlopsd_probes.system.probe import SystemProbe
from tests.alerts.rules import rules

PLUGINS: dict[str, type[Probe[Any]]] = {"gpu": GpuProbe, "model": ModelProbe, "system": SystemProbe}
NAME = re.compile(r"\b(?:mlopsd|process)_\w+|\b\w+:mlopsd\w*:\w+")
SELECTOR = re.compile(r"\b(\w+)\{([^}]*)\}")
LABEL = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")
TARGET_LABELS = {"job", "instance"}


def families() -> Iterator[Family]:
    """Those of the daemon and of the probes that come with it."""
    yield from (*FAMILIES, *BOARD_FAMILIES, *PROCESS_FAMILIES)
    for plugin, probe in PLUGINS.items():
        for metric in probe.metrics:
            yield family_of(plugin, metric)


@cache
def exposed() -> dict[str, set[str]]:
    """The labels of each name that a scrape can give, by that name."""
    found = {}
    for family in families():
        labels = {*family.labels, *TARGET_LABELS}
        found[family.name] = labels
        if family.kind == "histogram":
            found |= {f"{family.name}_{part}": {*labels, "le"} for part in ("bucket", "sum", "count")}
    return found


def mistakes(expression: str) -> list[str]:
    """What *expression* names and no daemon exposes: metrics, and labels of metrics."""
    known = exposed()
    recorded = {rule.name for rule in rules() if rule.record}
    wrong = [name for name in NAME.findall(expression) if name not in known and name not in recorded]
    for name, matchers in SELECTOR.findall(expression):
        for label in LABEL.findall(matchers):
            if name in known and label not in known[name]:
                wrong.append(f"{name}{{{label}}}")
    return wrong
