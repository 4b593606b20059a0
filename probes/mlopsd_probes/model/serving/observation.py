"""The content of a host's answers, for the counters."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Observation:
    """The content of the answer to one request, or to several that were predicted together.

    Of such several the first carries the values of all, so that sums come out right.

    Attributes:
        rows: of this request.
        seconds: from asking to answering.
        counts: finite numbers by bucket of the options, those above the last bound at the end; empty
            where there were no numbers.
        total: the sum of these numbers.
        classes: how often each text, truth value or whole number was predicted; beyond 20 kinds ``other``.
    """

    rows: int
    seconds: float
    counts: tuple[int, ...]
    total: float
    classes: Mapping[str, int]
