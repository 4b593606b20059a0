"""How long a benchmark may take: everything, or a look in passing."""

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Effort:
    """The size of a run.

    Attributes:
        rounds: how often each comparison is made, its sides in turn.
        rest_seconds: the length of a window at rest.
        scrapes: requests of each side in a round.
        each_trouble: whether every trouble has a case of its own.
        asking_seconds: how long predictions are asked for in each case of a round.
        many_cycles: checks of the GPU probe until its memory is looked at for the last time.
        http_seconds: how long each path is asked for in each case of a round.
        fleet: how many daemons one Prometheus scrapes.
        fleet_seconds: for how long.
    """

    rounds: int
    rest_seconds: float
    scrapes: int
    each_trouble: bool
    asking_seconds: float
    many_cycles: int
    http_seconds: float
    fleet: int
    fleet_seconds: float


FULL = Effort(
    rounds=5,
    rest_seconds=60,
    scrapes=200,
    each_trouble=True,
    many_cycles=10_000,
    asking_seconds=2.5,
    http_seconds=2,
    fleet=100,
    fleet_seconds=120,
)
QUICK = replace(
    FULL,
    rounds=1,
    rest_seconds=30,
    scrapes=100,
    each_trouble=False,
    many_cycles=1_500,
    asking_seconds=2,
    http_seconds=1,
    fleet=20,
    fleet_seconds=20,
)
