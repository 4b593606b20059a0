"""Durations and sizes as an operator types them, and numbers as an operator reads them."""

import re
from collections.abc import Mapping
from typing import Annotated

from pydantic import BeforeValidator, Field

SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
BYTES = {
    "": 1.0,
    "b": 1.0,
    **{f"{prefix}b": 1000.0**power for power, prefix in enumerate("kmgtp", 1)},
    **{f"{prefix}ib": 1024.0**power for power, prefix in enumerate("kmgtp", 1)},
}
QUANTITY = re.compile(r"(\d+(?:\.\d+)?)\s*([a-zA-Z]*)")
DECIMAL_STEP = 1000
ROUNDS_UP = 999.5  # three digits of anything above would read as the next unit's 1


def parse(value: object, units: Mapping[str, float]) -> object:
    """*value* as a number if it is text like ``500MB``; anything else is left to pydantic.

    Raises:
        ValueError: text that is not a number followed by one of *units*.
    """
    if not isinstance(value, str):
        return value
    match = QUANTITY.fullmatch(value.strip())
    if not match or match[2].lower() not in units:
        known = ", ".join(unit for unit in units if unit)
        raise ValueError(f"{value!r} is not a number followed by one of: {known}")
    return float(match[1]) * units[match[2].lower()]


def parse_bytes(value: object) -> object:
    """``"500MB"`` (10⁶) or ``"16GiB"`` (2³⁰) as a whole number of bytes."""
    number = parse(value, BYTES)
    return int(number) if isinstance(number, float) and number.is_integer() else number


def parse_seconds(value: object) -> object:
    """``"1m"`` or ``"500ms"`` as seconds."""
    return parse(value, SECONDS)


Size = Annotated[int, BeforeValidator(parse_bytes), Field(ge=0)]
Seconds = Annotated[float, BeforeValidator(parse_seconds), Field(gt=0, allow_inf_nan=False)]
Ratio = Annotated[float, Field(ge=0, le=1)]
Celsius = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Load = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def percent(ratio: float) -> str:
    """A ratio of 0 to 1 with three digits, ``1.2 %``; what is less than 0.01 % is ``0 %``."""
    return f"{round(ratio * 100, 2):.3g} %" if ratio < 1 else f"{ratio * 100:.0f} %"


def size(number: float) -> str:
    """Bytes in decimal units with three digits, as a disk's label has them: ``1.2 GB``."""
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if number < ROUNDS_UP:
            return f"{number:.3g} {unit}"
        number /= DECIMAL_STEP
    return f"{number:.3g} PB"


def duration(seconds: float) -> str:
    """Seconds in the largest unit that leaves at least two of it: ``90 s``, ``12 min``, ``3 d``."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.3g} s"


def celsius(degrees: float) -> str:
    """A temperature to the degree."""
    return f"{degrees:.0f} °C"
