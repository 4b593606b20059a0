"""Requests as tables of rows that can be predicted in a batch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .request import Request
from .scoring import JSON

# By type of the signature, the JSON types that pandas converts independently of other rows. A whole number
# beside fractions becomes a float first, which is exact enough for a double and not for a float or a long.
# Null and NaN are excluded: a model may fill gaps from other rows, which belong to other callers.
ALIKE: dict[str, frozenset[type]] = {
    "double": frozenset({float, int}),
    "float": frozenset({float}),
    "long": frozenset({int}),
    "integer": frozenset({int}),
    "boolean": frozenset({bool}),
    "string": frozenset({str}),
}


class NotBatchable(Exception):
    """The model does not predict each row by itself, or no trial can show it; the text is for an operator."""


@dataclass(frozen=True)
class Batchable:
    """A request as a table; requests with the same *family* and *columns* can be batched."""

    family: str
    columns: tuple[str, ...]
    rows: list[list[Any]]

    @property
    def key(self) -> tuple[str, tuple[str, ...]]:
        """The traits that the requests of a batch share."""
        return self.family, self.columns


def join(forms: Sequence[Batchable]) -> Request:
    """Return one request with the rows of all *forms*."""
    rows = [row for form in forms for row in form.rows]
    columns = forms[0].columns
    if forms[0].family == "instances":
        return Request(JSON, {"instances": [dict(zip(columns, row, strict=True)) for row in rows]}, len(rows))
    return Request(JSON, {"dataframe_split": {"columns": list(columns), "data": rows}}, len(rows))


def alike_of(schema: Any) -> dict[str, frozenset[type]] | None:
    """Return the JSON types that may be batched, by column; None if a column has none."""
    if schema is None or schema.is_tensor_spec() or not schema.has_input_names():
        return None
    kinds = {spec.name: ALIKE.get(getattr(spec.type, "name", "")) for spec in schema.inputs}
    known = {name: kind for name, kind in kinds.items() if kind is not None}
    return known if len(known) == len(kinds) else None


def form_of(document: dict[str, Any]) -> Batchable | None:
    """Return *document*, the body of a request, as a table; None if it has another form."""
    if len(document) != 1:  # it has params, or keys that MLflow ignores
        return None
    if (split := document.get("dataframe_split")) is not None:
        return _form_of_split(split)
    for family, key in (("table", "dataframe_records"), ("instances", "instances")):
        if (records := document.get(key)) is not None:
            return _form_of_records(family, records)
    return None


def _form_of_split(split: Any) -> Batchable | None:
    if not isinstance(split, dict) or split.keys() - {"columns", "data", "index"}:
        return None
    columns, rows, index = split.get("columns"), split.get("data"), split.get("index")
    if not isinstance(columns, list) or not all(isinstance(name, str) for name in columns):
        return None
    if not isinstance(rows, list) or not all(
        isinstance(row, list) and len(row) == len(columns) for row in rows
    ):
        return None
    if len(set(columns)) != len(columns) or (index is not None and index != list(range(len(rows)))):
        return None
    return Batchable("table", tuple(columns), rows)


def _form_of_records(family: str, records: Any) -> Batchable | None:
    if not isinstance(records, list) or not records or not isinstance(records[0], dict):
        return None
    columns = list(records[0])
    if not all(isinstance(record, dict) and list(record) == columns for record in records):
        return None
    return Batchable(family, tuple(columns), [list(record.values()) for record in records])


def is_alike(row: Sequence[Any], allowed: Sequence[frozenset[type]]) -> bool:
    """Return whether each value of *row* is of an *allowed* type, and no number is NaN or infinite."""
    return all(
        type(value) in kinds and not (type(value) is float and not math.isfinite(value))
        for value, kinds in zip(row, allowed, strict=True)
    )
