"""Numbers in words for operators."""

DECIMAL_STEP = 1000
ROUNDS_UP = 999.5  # three digits of anything above would read as the next unit's 1


def percent(ratio: float) -> str:
    """Format a ratio of 0 to 1 with three digits, ``1.2 %``; less than 0.01 % is ``0 %``."""
    return f"{round(ratio * 100, 2):.3g} %" if ratio < 1 else f"{ratio * 100:.0f} %"


def size(number: float) -> str:
    """Format bytes in decimal units with three digits, as a disk's label has them: ``1.2 GB``."""
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if number < ROUNDS_UP:
            return f"{number:.3g} {unit}"
        number /= DECIMAL_STEP
    return f"{number:.3g} PB"


def duration(seconds: float) -> str:
    """Format seconds in the largest unit that leaves at least two of it: ``90 s``, ``12 min``, ``3 d``."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.3g} s"


def celsius(degrees: float) -> str:
    """Format a temperature to the degree."""
    return f"{degrees:.0f} °C"
