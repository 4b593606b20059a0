"""The rows of the trial: those of the canary's input, and rows made from them."""

from __future__ import annotations

import math
from typing import Any

from . import outputs
from .batchable import NotBatchable, is_alike

GREATEST = 2**31  # bound of an "integer" of the signature


def various_rows(data: Any, alike: dict[str, frozenset[type]], most: int) -> list[list[Any]]:
    """Return at most *most* rows: those of *data*, and others with values that differ in every column.

    A column with one value would hide a model that compares rows.

    Raises:
        NotBatchable: there are no such rows, and none can be made up.
    """
    columns = [outputs.column(data, name) or [] for name in alike]
    if len(set(map(len, columns))) != 1:
        raise NotBatchable("the canary's input lacks columns")
    allowed = list(alike.values())
    rows = [list(row) for row in zip(*columns, strict=True) if is_alike(row, allowed)]
    if not rows:
        raise NotBatchable("the canary's input has no row without gaps")
    constant = [len(set(values)) == 1 for values in zip(*rows, strict=True)]
    for name, value, is_constant in zip(alike, rows[0], constant, strict=True):
        if is_constant and isinstance(value, str):
            raise NotBatchable(
                f"the canary's input has only one text in column {name!r}; give it rows with others"
            )
    if any(constant):
        other = [_changed(value) if same else value for value, same in zip(rows[0], constant, strict=True)]
        rows.insert(1, other)
    return _with_extremes(rows, list(alike))[:most]


def _with_extremes(rows: list[list[Any]], columns: list[str]) -> list[list[Any]]:
    """Return *rows* mixed with copies that have values of the whole range, or of other rows."""
    found: list[list[Any]] = []
    for at, row in enumerate(rows):
        mixed = [rows[(at + place) % len(rows)][place] for place in range(len(columns))]
        found.extend([row, [_extreme(value, at) for value in row], mixed])
    return found


def _extreme(value: Any, turn: int) -> Any:
    """Return another value of the type of *value*; keep a text, which cannot be made up."""
    if isinstance(value, bool):
        return not value
    if not isinstance(value, (int, float)):
        return value
    value = value or (1 if isinstance(value, int) else 1.0)
    changes = (-value, value * 100, value * 0, -value * 100, value / 100 if isinstance(value, float) else -1)
    changed = changes[turn % len(changes)]
    return changed if math.isfinite(changed) and abs(changed) < GREATEST else value


def _changed(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    return value + 1 if isinstance(value, int) else value * 1.01 + 0.01
