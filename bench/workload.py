"""The series that the daemon and its peer both show, so that their pages are of one size.

They are shaped as those of GPUs: families of eight cards with three labels, two gauges to a counter, and
other values at each look.
"""

from collections.abc import Iterator
from dataclasses import dataclass

CARDS = 8
INTERVAL = 5.0  # seconds between two looks, a third of what probes of hardware take by default
LABELS = ("gpu", "uuid", "sensor")


@dataclass(frozen=True, slots=True)
class Series:
    """One line of the page."""

    family: str
    labels: tuple[str, str, str]

    @property
    def counts(self) -> bool:
        """Whether it is a counter's."""
        return self.family.endswith("_total")


def series(number: int) -> Iterator[Series]:
    """Yield *number* of them, family by family."""
    for at in range(number):
        family, card = divmod(at, CARDS)
        name = f"quantity_{family}_total" if family % 3 == 2 else f"quantity_{family}"
        yield Series(name, (str(card), f"GPU-{card:08d}-6a3f-11ee-8c99-0242ac120002", f"sensor {family % 7}"))


def value(at: int, look: int) -> float:
    """Return the value of line *at* at the *look*-th scrape: as often an integer as not, and never less."""
    return float(look * 7 + at) if at % 2 else round(look * 0.37 + at / 3, 3)
