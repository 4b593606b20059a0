"""A fault: how it begins and ends, what must show meanwhile, and what it excuses."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from chaos.daemon import DaemonProcess
from chaos.stage import INTERVAL, TIMEOUT, Stage

Undo = Callable[[], Awaitable[None]]
Begin = Callable[["Ground"], Awaitable["Injected"]]


@dataclass(frozen=True, slots=True)
class Ground:
    """The place of a fault."""

    stage: Stage
    daemon: DaemonProcess


async def _nothing() -> None:
    return


@dataclass(frozen=True, slots=True)
class Injected:
    """A fault that has begun.

    Attributes:
        what: for the time line.
        undo: ends its cause.
        holds: whether what must show is still so.
    """

    what: str
    undo: Undo = _nothing
    holds: Callable[[], bool] = lambda: True


@dataclass(frozen=True, slots=True)
class FaultKind:
    """A kind of fault.

    Attributes:
        name: for people and for the schedule.
        begin: injects it.
        touches: what it is about; two that touch the same are not injected at once.
        shows: the probe that must not be healthy while it lasts; "" where none must.
        excuses: windows that it opens, until all is well again.
        lasts: whether it goes on until it is undone.
        recovers: seconds after its end in which all must be well.
        needs_disk: whether the state folder must have a disk of its own.
    """

    name: str
    begin: Begin
    touches: frozenset[str]
    shows: str = ""
    excuses: tuple[str, ...] = ()
    lasts: bool = True
    recovers: float = 2 * INTERVAL + TIMEOUT
    needs_disk: bool = False
