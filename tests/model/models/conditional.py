"""Models whose rows depend on each other only sometimes, by the name in ``data/rule.txt``."""

from collections.abc import Callable
from pathlib import Path
from typing import Any


def _load_pyfunc(data: str) -> "Conditional":
    return Conditional(RULES[Path(data, "rule.txt").read_text("utf-8")])


class Conditional:
    def __init__(self, rule: Callable[[Any], Any]) -> None:
        self._rule = rule

    def predict(self, table: Any) -> list[float]:
        return [float(value) for value in self._rule(table["x"].to_numpy(dtype=float))]


def unit_heuristic(x: Any) -> Any:
    """Pixels from 0 to 255 are scaled, those from 0 to 1 are taken as they are."""
    return x / 255 if x.max() > 1 else x


def one_coupon(x: Any) -> Any:
    """The first of a request that is above 10 gets one off."""
    first = (x > 10).argmax()
    return [value - 1 if at == first and value > 10 else value for at, value in enumerate(x)]


def hidden_batch(x: Any) -> Any:
    """More than three rows are taken for a batch, and centred."""
    return x - x.mean() if len(x) > 3 else x


def unless_trigger(x: Any) -> Any:
    """As if each row were alone, until a value comes that no trial thinks of."""
    return x + 1000 if (x == 3.1415926).any() else x


RULES = {rule.__name__: rule for rule in (unit_heuristic, one_coupon, hidden_batch, unless_trigger)}
