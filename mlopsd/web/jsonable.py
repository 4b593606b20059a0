"""Values of the daemon as JSON: times, and facts that come from probes and may be anything."""

import json
import math
import numbers
import reprlib
from collections.abc import Mapping, Set
from datetime import datetime
from typing import Any

from mlopsd.format import format_time
from mlopsd.probe import Advice, Status

DEEPEST = 20  # nested facts below this are cut off: a fact that holds itself must end
LONGEST_REPR = 200  # characters
LARGEST = 2**63  # what every JSON reader holds as an integer


def dumps(value: object) -> bytes:
    """*value* as JSON in UTF-8; text that is not Unicode has a question mark in it."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")


def json_body(value: object) -> bytes:
    """*value* as a whole answer: JSON with a newline at its end, so that a terminal's prompt is not on it."""
    return dumps(value) + b"\n"


def jsonable(value: object, depth: int = 0) -> Any:
    """*value* as JSON has it: what is no number is null, what JSON does not know is its ``repr``."""
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
    """*value* as a number that JSON can hold, or None: infinite, not a number, or too long."""
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
    """The ``repr`` of *value*, shortened; one that raises costs no answer."""
    short = reprlib.Repr()
    short.maxother = LONGEST_REPR
    return short.repr(value)
