"""The shipped Grafana dashboard: its panels, and its queries with the variables filled in."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE = Path(__file__).parents[2] / "deploy" / "grafana" / "mlopsd.json"
RATE_INTERVAL = "1m"
LOOKS = {
    "temperature": "mlopsd_system_temperature",
    "pressure": "mlopsd_system_pressure",
    "disk_io": "mlopsd_system_disk_read",
    "network": "mlopsd_system_network",
}
CHOICE = re.compile(r"label_values\((.+), (\w+)\)")


@dataclass(frozen=True, slots=True)
class Query:
    """What one panel, or a variable, asks of Prometheus."""

    title: str
    expression: str

    def __str__(self) -> str:
        return self.title

    def lacks(self, absent: list[str]) -> str | None:
        """Which of *absent*, what a host does not have by its system probe, this asks for."""
        return next((look for look in absent if LOOKS.get(look, "\0") in self.expression), None)


def dashboard() -> dict[str, Any]:
    """The file."""
    read: dict[str, Any] = json.loads(FILE.read_text("utf-8"))
    return read


def panels() -> list[dict[str, Any]]:
    """Every panel, rows too."""
    found: list[dict[str, Any]] = dashboard()["panels"]
    return found


def variables() -> list[dict[str, Any]]:
    """What is chosen above the panels."""
    found: list[dict[str, Any]] = dashboard()["templating"]["list"]
    return found


def queries() -> list[Query]:
    """Those of the panels, then those of the variables."""
    of_panels = [
        Query(f"{panel['title']} {target['refId']}", filled(target["expr"]))
        for panel in panels()
        for target in panel.get("targets", [])
    ]
    return of_panels + [_choice(one) for one in variables() if one["type"] == "query"]


def _choice(variable: dict[str, Any]) -> Query:
    found = CHOICE.fullmatch(variable["query"]["query"])
    assert found, variable["query"]
    return Query(f"choice of {variable['label']}", filled(f"count by ({found[2]}) ({found[1]})"))


def filled(expression: str) -> str:
    """*expression* as Grafana sends it where everything is chosen."""
    expression = expression.replace("$__rate_interval", RATE_INTERVAL)
    for variable in variables():
        expression = expression.replace(f"${variable['name']}", variable.get("allValue", ""))
    assert "$" not in expression, expression
    return expression
