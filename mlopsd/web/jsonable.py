"""Values of the daemon as JSON: times, and facts of probes, which may be any object."""

import json
import math
import numbers
import reprlib
from collections.abc import Mapping, Set
from datetime import datetime
from typing import Any

from mlopsd.format import format_time
from mlopsd.probe import Advice, Status

DEEPEST = 20  # levels of nested facts; deeper ones are cut off, since a fact may contain itself
LONGEST_REPR = 200  # characters
LARGEST = 2**63  # integers below it are exact in every JSON reader


def dumps(value: object) -> bytes:
    """Return *value* as JSON in UTF-8; replace invalid Unicode by question marks."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")


def json_body(value: object) -> bytes:
    """Return *value* as a response body: JSON with a newline, which keeps a terminal's prompt apart."""
    return dumps(value) + b"\n"


def jsonable(value: object, depth: int = 0) -> Any:
    """Return *value* as JSON types: null for NaN and infinity, the ``repr`` for unknown types."""
    if not isinstance(value, Mapping | list | tuple | Set):
        return _single(value)
    if depth >= DEEPEST:
        return "…"
    if isinstance(value, Mapping):
        return {_key(key): jsonable(item, depth + 1) for key, item in value.items()}
    return [jsonable(item, depth + 1) for item in value]


def _single(value: object) -> bool | str | int | float | None:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, Status | Advice):
        return str(value)
    if isinstance(value, numbers.Real):
        return number(value)
    return format_time(value) if isinstance(value, datetime) else _repr(value)


def number(value: numbers.Real) -> int | float | None:
    """Return *value* as a JSON number, or None if it is infinite, NaN or too large."""
    if isinstance(value, numbers.Integral):
        whole = int(value)
        return whole if -LARGEST <= whole < LARGEST else None
    try:
        real = float(value)
    except OverflowError:  # a fraction of huge integers
        return None
    return real if math.isfinite(real) else None


def _key(key: object) -> str:
    return str.__str__(key) if isinstance(key, str) else _repr(key)


def _repr(value: object) -> str:
    """Return the shortened ``repr`` of *value*, or a substitute if it raises."""
    short = reprlib.Repr()
    short.maxother = LONGEST_REPR
    return short.repr(value)
