"""The state that survives a restart of the probe: the cards, their XIDs, and their counters."""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from mlopsd.safe_file import read_regular, write_atomically
from mlopsd_probes.gpu.card import Card

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
FILE = "past.json"


@dataclass(slots=True)
class XidEvent:
    """An XID of a card since boot: its count, its last Unix time, and whether it waits for a reset."""

    count: int = 0
    last: float = 0.0
    is_open: bool = False


@dataclass(slots=True)
class CardRecord:
    """One card, and its history since boot.

    Attributes:
        index: the last seen index; *name* and *bus_id* are the last seen ones too.
        uncorrected: volatile uncorrected ECC errors at the first check since the driver loaded.
        nvlinks: the most links up at the same time since the driver loaded.
        pcie_width: the most PCIe lanes in this slot since the driver loaded.
        pcie_generation: the fastest PCIe generation in this slot since the driver loaded.
        energy: millijoules since the driver loaded or the card was reset; a decrease means a reset.
        needed_recovery: NVML asked for a reset or reboot, and still does.
        is_expected: it answered since boot, or since the last `CardHistory.forget`.
        xids: the XIDs by number.
    """

    index: int
    name: str
    bus_id: str
    uncorrected: int | None = None
    nvlinks: list[int] = field(default_factory=list)
    pcie_width: int | None = None
    pcie_generation: int | None = None
    energy: int | None = None
    needed_recovery: bool = False
    is_expected: bool = True
    xids: dict[int, XidEvent] = field(default_factory=dict)


class CardHistory:
    """The cards of this boot by UUID, in a file of the probe's state folder.

    The check and the thread that waits for XIDs both write. So an XID is on disk even if it makes the next
    driver call hang.

    Attributes:
        hung_since: the Unix time since which the driver has not answered; None while it answers.
    """

    def __init__(
        self, state_dir: Path, boot_id: Callable[[], str] = lambda: BOOT_ID.read_text("ascii").strip()
    ) -> None:
        self.file = state_dir / FILE
        self.lock = threading.RLock()
        self._boot = boot_id()
        self._driver = ""
        self.hung_since: float | None = None
        self.cards: dict[str, CardRecord] = {}
        self._saved: str = ""
        self._load()

    def _load(self) -> None:
        """Load the file, unless it is broken or of another boot."""
        try:
            document = json.loads(read_regular(self.file))
            if document["boot"] != self._boot:
                return
            self.cards = {uuid: _remembered(card) for uuid, card in document["cards"].items()}
            self._driver = str(document["driver"])
            self.hung_since = document.get("hung_since")
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            self.cards = {}

    def save(self) -> None:
        """Write the file atomically if anything has changed.

        Raises:
            OSError: it cannot be written.
        """
        with self.lock:
            document = json.dumps(
                {
                    "boot": self._boot,
                    "driver": self._driver,
                    "hung_since": self.hung_since,
                    "cards": self.cards,
                },
                default=_fields_of,
            )
            if document == self._saved:
                return
            write_atomically(self.file, document.encode())
            self._saved = document

    def driver_loaded(self, load: str) -> None:
        """Record the driver *load*, a unique text; a new load has the effect of a reset of every card."""
        with self.lock:
            if self._driver and load != self._driver:
                for card in self.cards.values():
                    _renew(card)
            self._driver = load

    def of(self, card: Card) -> CardRecord:
        """Return the record of *card*, with its present name, index and slot."""
        with self.lock:
            found = self.cards.setdefault(card.uuid, CardRecord(card.index, card.name, card.bus_id))
            if found.bus_id != card.bus_id:  # another slot may have another link
                found.pcie_width = found.pcie_generation = None
            found.index, found.name, found.bus_id = card.index, card.name, card.bus_id
            found.is_expected = True
            return found

    def card_reset(self, card: Card) -> None:
        """Record a reset of *card*."""
        with self.lock:
            _renew(self.of(card))

    def others(self, uuids: set[str]) -> dict[str, CardRecord]:
        """Return the expected cards that are not among *uuids*."""
        with self.lock:
            cards = self.cards.items()
            return {uuid: card for uuid, card in cards if card.is_expected and uuid not in uuids}

    def xids_of(self, uuid: str) -> dict[int, XidEvent]:
        """Return a copy of the XIDs of the card *uuid*, by number."""
        with self.lock:
            card = self.cards.get(uuid)
            return {} if card is None else {xid: replace(event) for xid, event in sorted(card.xids.items())}

    def record(self, card: Card, xid: int, at: float | None = None) -> None:
        """Record an *xid* of *card*, now or at the Unix time *at*, and write it to disk.

        Raises:
            OSError: it cannot be written; it is still kept in memory.
        """
        with self.lock:
            happened = self.of(card).xids.setdefault(xid, XidEvent())
            happened.count += 1
            happened.last = time.time() if at is None else at
            happened.is_open = True
            self.save()

    def forget(self) -> None:
        """Forget the expected cards and close every XID; a persisting fault shows again by itself."""
        with self.lock:
            for card in self.cards.values():
                _renew(card)
                card.is_expected = False

    def open_xids(self) -> int:
        """Count the XIDs that wait for a reset."""
        with self.lock:
            return sum(happened.is_open for card in self.cards.values() for happened in card.xids.values())


def _renew(card: CardRecord) -> None:
    """Close the XIDs of *card* and restart its counters; keep the counts of XIDs."""
    card.uncorrected, card.nvlinks, card.energy, card.needed_recovery = None, [], None, False
    card.pcie_width = card.pcie_generation = None
    for event in card.xids.values():
        event.is_open = False


def _fields_of(record: CardRecord | XidEvent) -> dict[str, Any]:
    return {each.name: getattr(record, each.name) for each in fields(record)}


def _remembered(record: dict[str, Any]) -> CardRecord:
    xids = {int(xid): XidEvent(**happened) for xid, happened in record.pop("xids").items()}
    return CardRecord(**record, xids=xids)
