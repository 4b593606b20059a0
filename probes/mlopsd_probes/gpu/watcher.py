"""A thread that waits for XIDs, which NVML tells only to those who wait."""

import contextlib
import ctypes
import threading
from collections.abc import Callable, Iterable
from typing import Any

import pynvml

from mlopsd_probes.gpu.card import Card
from mlopsd_probes.gpu.nvml import LACKING, NO_SESSION

WAIT = 1000  # ms; how long the thread may take to end
ENDING = 2.0  # seconds
FIRST_PAUSE = 1.0  # seconds after an error of NVML, doubling
LONGEST_PAUSE = 30.0

Record = Callable[[Card, int], None]


class Watcher:
    """Waits on an NVML event set of all *cards* and hands each XID to *record*, in its own thread.

    Attributes:
        unwatched: the cards whose XIDs NVML does not tell.
        trouble: why none come at present, or None.
    """

    def __init__(self, cards: Iterable[Card], record: Record) -> None:
        self.record = record
        self.unwatched: list[Card] = []
        self.trouble: str | None = None
        self.stopping = threading.Event()
        self.events = pynvml.nvmlEventSetCreate()
        self.cards = {address(card.handle): card for card in cards if self.register(card)}
        self.thread = threading.Thread(target=self.run, name="wait for XIDs", daemon=True)
        if self.cards:
            self.thread.start()

    def register(self, card: Card) -> bool:
        """Ask for the XIDs of *card*; whether that can be had."""
        try:
            pynvml.nvmlDeviceRegisterEvents(card.handle, pynvml.nvmlEventTypeXidCriticalError, self.events)
        except pynvml.NVMLError:  # lost, or not supported; the looks at the card say what it is
            self.unwatched.append(card)
            return False
        return True

    def run(self) -> None:
        """Wait until told to stop, or NVML is no longer initialised."""
        pause = FIRST_PAUSE
        while not self.stopping.is_set():
            try:
                self.take(pynvml.nvmlEventSetWait_v2(self.events, WAIT))
            except (pynvml.NVMLError, OSError) as error:
                if getattr(error, "value", None) == pynvml.NVML_ERROR_TIMEOUT:
                    self.trouble, pause = None, FIRST_PAUSE
                    continue
                self.trouble = str(error)
                if getattr(error, "value", None) in NO_SESSION | LACKING:
                    return
                self.stopping.wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE)

    def take(self, event: Any) -> None:
        """Hand on an XID of a card that is known.

        Raises:
            OSError: it cannot be written down.
        """
        card = self.cards.get(address(event.device))
        if card is not None and event.eventType & pynvml.nvmlEventTypeXidCriticalError:
            self.record(card, int(event.eventData))

    def stop(self) -> bool:
        """End the thread and free the set; whether it ended, since a thread in a hung call stays."""
        self.stopping.set()
        if self.thread.is_alive():
            self.thread.join(ENDING)
        if self.thread.is_alive():
            return False
        with contextlib.suppress(pynvml.NVMLError):  # NVML is gone, and the set with it
            pynvml.nvmlEventSetFree(self.events)
        return True


def address(handle: Any) -> int | None:
    """Where *handle* points, by which NVML's events name their card."""
    return ctypes.cast(handle, ctypes.c_void_p).value
