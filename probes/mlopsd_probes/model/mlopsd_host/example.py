"""Requests for a canary: one that a signature allows, and an example without its optional fields."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from .libraries import schema as schemas
from .scoring import Ranges

PLAIN: dict[str, Any] = {
    "boolean": True,
    "integer": 1,
    "long": 1,
    "float": 1.0,
    "double": 1.0,
    "string": "a",
    "binary": "YQ==",
    "datetime": "2000-01-01",
}


def document(schema: Any, ranges: Ranges) -> dict[str, Any]:
    """Return a request of one row for *schema*, within the *ranges* for callers."""
    if schema.is_tensor_spec():
        tensors = {spec.name: _tensor(list(spec.shape), _zero(spec)) for spec in schema.inputs}
        return {"inputs": tensors if schema.has_input_names() else next(iter(tensors.values()))}
    values = [_value(spec.type, ranges.get(spec.name or "")) for spec in schema.inputs]
    split: dict[str, Any] = {"data": [values]}
    if schema.has_input_names():
        split["columns"] = schema.input_names()
    return {"dataframe_split": split}


def without_optional(example: bytes, schema: Any) -> tuple[bytes, list[str]]:
    """Return *example*, a JSON request, without the fields that a caller may leave out, and their names.

    Those are the ``params``, and each column that *schema* marks as optional. MLflow fills an example of
    ``llm/v1/chat`` with every field that the protocol knows, and not every model can take each.
    """
    document = json.loads(example)
    left_out: list[str] = []
    if not isinstance(document, dict):
        return example, left_out
    if "params" in document:
        left_out.append("params")
        del document["params"]
    if schema is not None and schema.has_input_names() and not schema.is_tensor_spec():
        optional = {spec.name for spec in schema.inputs if not spec.required}
        _remove(document, optional, left_out)
    return json.dumps(document).encode(), list(dict.fromkeys(left_out))


def _remove(document: dict[str, Any], names: Collection[str], left_out: list[str]) -> None:
    """Remove the columns *names* from each form of a request, and add them to *left_out*."""
    if isinstance(split := document.get("dataframe_split"), dict) and "columns" in split:
        kept = [at for at, name in enumerate(split["columns"]) if name not in names]
        left_out += [name for name in split["columns"] if name in names]
        split["data"] = [[row[at] for at in kept] for row in split["data"]]
        split["columns"] = [split["columns"][at] for at in kept]
        return
    rows = [document, document.get("inputs"), *(document.get("dataframe_records") or ())]
    for row in rows:
        if isinstance(row, dict):
            left_out += [name for name in row if name in names]
            for name in names:
                row.pop(name, None)


def is_guess(schema: Any) -> bool:
    """Return whether *schema* leaves the size or the content of its values open, so that a row is a guess."""
    if schema.is_tensor_spec():
        return any(size < 0 for spec in schema.inputs for size in spec.shape[1:])
    nested = (schemas.Array, schemas.Object, schemas.Map)
    return any(isinstance(spec.type, nested) for spec in schema.inputs)


def _zero(spec: Any) -> Any:
    return {"b": False, "U": "a", "S": "a", "O": "a", "i": 0, "u": 0}.get(spec.type.kind, 0.0)


def _tensor(shape: list[int], value: Any) -> Any:
    """Return *value* in nested lists of *shape*; a dimension of any size gets one element."""
    if not shape:
        return value
    return [_tensor(shape[1:], value) for _ in range(shape[0] if shape[0] >= 0 else 1)]


def _value(kind: Any, limits: Any = None) -> Any:
    if isinstance(kind, schemas.Array):
        return [_value(kind.dtype)]
    if isinstance(kind, schemas.Object):
        return {part.name: _value(part.dtype) for part in kind.properties}
    if isinstance(kind, schemas.Map):
        return {"a": _value(kind.value_type)}
    plain = PLAIN.get(getattr(kind, "name", ""))
    return _within(plain, limits) if limits is not None else plain


def _within(plain: Any, limits: Any) -> Any:
    low, high = limits
    if isinstance(plain, (bool, str)) or plain is None:
        return plain
    value = max(plain, low) if low is not None else plain
    value = min(value, high) if high is not None else value
    return type(plain)(value)
