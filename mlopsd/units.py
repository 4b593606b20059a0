"""Durations and sizes in configuration syntax: ``"15s"``, ``"1h"``, ``"500MB"``, or a number."""

import re
from typing import Annotated

from pydantic import BeforeValidator, Field

SECONDS = {"ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
BYTES = {
    **{"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12},
    **{"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40},
}  # upper or lower case; never bits
NUMBER = r"[0-9]+(?:\.[0-9]+)?"
QUANTITY = re.compile(rf"\s*({NUMBER})\s*([A-Za-z]*)\s*")
DURATION = rf"^\s*{NUMBER}\s*(?:{'|'.join(SECONDS)})?\s*$"  # for the API's description; `seconds` decides


def seconds(value: object) -> object:
    """Return the text *value* in seconds; return any other value unchanged.

    Raises:
        ValueError: The text is not a duration.
    """
    return _quantity(value, SECONDS, 'not a duration; write seconds or text like "15s", "5m", "1h"')


def size(value: object) -> object:
    """Return the text *value* in bytes; return any other value unchanged.

    Raises:
        ValueError: The text is not a size.
    """
    lowered = value.lower() if isinstance(value, str) else value
    number = _quantity(lowered, BYTES, 'not a size; write bytes or text like "500MB", "2GiB"')
    return int(number) if isinstance(number, float) and number.is_integer() else number


def _quantity(value: object, units: dict[str, float] | dict[str, int], complaint: str) -> object:
    if isinstance(value, bool):
        raise ValueError(complaint)  # noqa: TRY004  # pydantic does not report a TypeError as a validation error
    if not isinstance(value, str):
        return value
    match = QUANTITY.fullmatch(value)
    if match is None or (match[2] and match[2] not in units):
        raise ValueError(complaint)
    return float(match[1]) * (units[match[2]] if match[2] else 1)


Seconds = Annotated[float, BeforeValidator(seconds), Field(ge=0, le=366 * 86400, allow_inf_nan=False)]
Bytes = Annotated[int, BeforeValidator(size), Field(ge=0)]
