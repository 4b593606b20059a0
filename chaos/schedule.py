"""The order of the faults: a function of the seed alone."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from chaos.fault import FaultKind

HOLD = (6.0, 10.0)  # seconds; a fault must be able to show, which takes an interval and a timeout
OVERLAP = 0.6  # of the turns have a second fault beside the first
CALM = (0.3, 1.5)


@dataclass(frozen=True, slots=True)
class Turn:
    """A fault, perhaps another one *later* seconds after it, how long both last, and the calm after."""

    faults: tuple[FaultKind, ...]
    later: float
    hold: float
    calm: float

    def __str__(self) -> str:
        names = f" and {self.later:.1f} s later ".join(fault.name for fault in self.faults)
        return f"{names}, for {self.hold:.1f} s"


def turns(seed: int, faults: Sequence[FaultKind]) -> Iterator[Turn]:
    """Every fault once in an order of its own, then all again in another, for ever."""
    chance = random.Random(seed)
    while True:
        deck = chance.sample(faults, len(faults))
        while deck:
            first = deck.pop()
            second = _beside(first, deck, chance)
            chosen = (first,) if second is None else (first, second)
            yield Turn(chosen, chance.uniform(0, 3), chance.uniform(*HOLD), chance.uniform(*CALM))


def _beside(first: FaultKind, deck: list[FaultKind], chance: random.Random) -> FaultKind | None:
    """Another one out of *deck* that touches nothing of what *first* does."""
    wanted = chance.random() < OVERLAP
    for place, other in enumerate(deck):
        if wanted and not other.touches & first.touches:
            return deck.pop(place)
    return None
