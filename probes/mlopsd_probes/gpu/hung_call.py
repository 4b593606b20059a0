"""The call of a hung driver: its name and its card, from the stack of the thread that waits for it."""

import sys
from collections.abc import Iterator
from types import FrameType

from mlopsd_probes.gpu.card import Card

PREFIX = "nvml"  # of every function of the library


def describe(thread: int | None) -> str:
    """Return the NVML call that *thread* is in, and its card: ``nvmlInit``, ``nvmlX of gpu 3 (…)``.

    Return "the driver" for a thread that has ended or is in none.
    """
    frames = list(_frames(thread))
    call = next((name for frame in frames for name in _calls(frame)), "the driver")
    cards = (value for frame in frames for value in frame.f_locals.values() if isinstance(value, Card))
    card = next(cards, None)
    return call if card is None else f"{call} of {card.title}"


def _frames(thread: int | None) -> Iterator[FrameType]:
    """Yield the frames of *thread*, innermost first."""
    frame = sys._current_frames().get(thread or 0)  # noqa: SLF001  # only this has other threads' stacks
    while frame is not None:
        yield frame
        frame = frame.f_back


def _calls(frame: FrameType) -> Iterator[str]:
    """Yield the name of *frame* and of the functions that it has at hand, if they are of NVML."""
    names = (frame.f_code.co_name, *(getattr(value, "__name__", "") for value in frame.f_locals.values()))
    return (name for name in names if isinstance(name, str) and name.startswith(PREFIX))
