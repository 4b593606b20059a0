"""The text form of durations, sizes, times, ratios and counts.

A duration of 120 s or more has one whole unit: the largest that fits at least twice. It is rounded down, so
that a text never claims more time than has passed. The page's script follows the same rules.
"""

from datetime import UTC, datetime

_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_UNITS = ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min"))
_SIZES = ("bytes", "kB", "MB", "GB", "TB")  # decimal, as on a disk's label
_STEP = 1000
_THREE_DIGITS = 100
_SYMBOLS = {"watts": "W", "volts": "V", "amperes": "A", "hertz": "Hz", "joules": "J"}
_ROUNDS_UP = 999.5  # three digits of a larger number would round to 1 of the next unit


def format_age(seconds: float) -> str:
    """Return *seconds* in whole units: ``90 s``, ``12 min``, ``47 h``, ``3 d``; at least ``0 s``."""
    for length, unit in _UNITS:
        if seconds >= 2 * length:
            return f"{seconds // length:.0f} {unit}"
    return f"{max(seconds, 0) // 1:.0f} s"


def format_duration(seconds: float) -> str:
    """Return *seconds* like `format_age`, but with three digits below 120 s: ``12.5 ms``, ``4.5 s``."""
    if seconds >= 2 * _MINUTE:
        return format_age(seconds)
    milliseconds = max(seconds, 0) * _STEP
    return f"{milliseconds:.3g} ms" if 0 < milliseconds < _ROUNDS_UP else f"{max(seconds, 0):.3g} s"


def format_size(size: float) -> str:
    """Return *size* in bytes with three digits, in decimal units: ``512 bytes``, ``1.2 GB``."""
    for unit in _SIZES:
        if size < _ROUNDS_UP:
            return f"{size:.3g} {unit}"
        size /= _STEP
    return f"{size:.3g} PB"


def format_ratio(ratio: float) -> str:
    """Return *ratio*, 0 to 1, as percent with three digits: ``1.23 %``; less than 0.01 % is ``0 %``."""
    return f"{round(ratio * 100, 2):.3g} %" if ratio < 1 else f"{ratio * 100:.0f} %"


def format_celsius(degrees: float) -> str:
    """Return a temperature to the degree: ``85 °C``."""
    return f"{degrees:.0f} °C"


def format_count(number: int, noun: str) -> str:
    """Return *number* with *noun*, in the plural unless it is 1: ``1 GPU``, ``8 GPUs``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def format_quantity(value: float, unit: str) -> str:
    """Return *value* in a metric's *unit* as text: ``87 %``, ``61.2 GB``, ``62 °C``, ``312 W``."""
    known = _FORMATS.get(unit)
    if known is not None:
        return known(value)
    text = f"{value:.0f}" if value == int(value) or abs(value) >= _THREE_DIGITS else f"{value:.3g}"
    return f"{text} {_SYMBOLS.get(unit, unit)}".strip()


def format_time(moment: datetime) -> str:
    """Return *moment* as RFC 3339 in UTC, to the millisecond: ``2026-11-30T18:00:00.000Z``."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


_FORMATS = {
    "ratio": format_ratio,
    "bytes": format_size,
    "celsius": format_celsius,
    "seconds": format_duration,
}
