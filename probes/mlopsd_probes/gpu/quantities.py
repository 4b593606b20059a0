"""Numbers as an operator reads them."""

HALF_A_DAY = 43_200  # seconds; beyond it an age is told in hours
HALF_AN_HOUR = 1_800


def celsius(degrees: float) -> str:
    """A temperature to the degree."""
    return f"{degrees:.0f} °C"


def seconds(number: float) -> str:
    """Seconds, minutes or hours, without decimals: ``90 s``, ``45 min``, ``14 h``."""
    if number >= HALF_A_DAY:
        return f"{number / 3600:.0f} h"
    return f"{number / 60:.0f} min" if number >= HALF_AN_HOUR else f"{number:.0f} s"


def several(number: int, noun: str) -> str:
    """``1 GPU``, ``8 GPUs``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
