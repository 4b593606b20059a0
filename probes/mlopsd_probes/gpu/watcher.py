"""A thread that waits for XIDs, which NVML reports only as events."""

import contextlib
import ctypes
import threading
from collections.abc import Callable, Iterable
from typing import Any

import pynvml

from mlopsd.process.backoff import ExponentialBackoff
from mlopsd_probes.gpu.card import Card
from mlopsd_probes.gpu.nvml import LACKING, NO_SESSION

WAIT = 1000  # ms of one wait for events; the thread notices the end after it
ENDING = 2.0  # seconds
LONGEST_PAUSE = 30.0  # seconds after an error of NVML

Record = Callable[[Card, int], None]


class Watcher:
    """Waits on an NVML event set of all *cards* and passes each XID to *record*, in its own thread.

    Attributes:
        unwatched: the cards whose XIDs NVML does not report.
        problem: the reason why no XIDs come at present, or None.
    """

    def __init__(self, cards: Iterable[Card], record: Record) -> None:
        self._record = record
        self.unwatched: list[Card] = []
        self.problem: str | None = None
        self.stopping = threading.Event()
        self._events = pynvml.nvmlEventSetCreate()
        self.cards = {_address(card.handle): card for card in cards if self._register(card)}
        self.thread = threading.Thread(target=self._run, name="wait for XIDs", daemon=True)
        if self.cards:
            self.thread.start()

    def _register(self, card: Card) -> bool:
        """Register for the XIDs of *card*; return true if NVML reports them."""
        try:
            pynvml.nvmlDeviceRegisterEvents(card.handle, pynvml.nvmlEventTypeXidCriticalError, self._events)
        except pynvml.NVMLError:  # lost or not supported; the collectors report which
            self.unwatched.append(card)
            return False
        return True

    def _run(self) -> None:
        """Wait for events until `stop`, or until NVML is no longer initialised."""
        backoff = ExponentialBackoff(longest=LONGEST_PAUSE)
        while not self.stopping.is_set():
            try:
                self._handle_event(pynvml.nvmlEventSetWait_v2(self._events, WAIT))
            except (pynvml.NVMLError, OSError) as error:
                if getattr(error, "value", None) == pynvml.NVML_ERROR_TIMEOUT:
                    self.problem = None
                    backoff.forget()
                    continue
                self.problem = str(error)
                if getattr(error, "value", None) in NO_SESSION | LACKING:
                    return
                backoff.failed()
                self.stopping.wait(backoff.left())

    def _handle_event(self, event: Any) -> None:
        """Pass on an XID of a known card.

        Raises:
            OSError: the XID cannot be written.
        """
        card = self.cards.get(_address(event.device))
        if card is not None and event.eventType & pynvml.nvmlEventTypeXidCriticalError:
            self._record(card, int(event.eventData))

    def stop(self) -> bool:
        """End the thread and free the set; return false if the thread hangs in a call."""
        self.stopping.set()
        if self.thread.is_alive():
            self.thread.join(ENDING)
        if self.thread.is_alive():
            return False
        with contextlib.suppress(pynvml.NVMLError):  # NVML is shut down, and the set with it
            pynvml.nvmlEventSetFree(self._events)
        return True


def _address(handle: Any) -> int | None:
    """Return the address in *handle*, which identifies the card in NVML's events."""
    return ctypes.cast(handle, ctypes.c_void_p).value
