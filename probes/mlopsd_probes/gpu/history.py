"""The state that outlives a restart of the probe: the cards, their XIDs, and where their counters stood."""

import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from mlopsd_probes.gpu.card import Card

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
FILE = "past.json"


@dataclass(slots=True)
class XidEvent:
    """An XID of a card since boot: how often, when last (Unix time), and whether no reset has ended it."""

    count: int = 0
    last: float = 0.0
    is_open: bool = False


@dataclass(slots=True)
class CardRecord:
    """One card, and its history since boot.

    Attributes:
        index: as when it was last seen; so are *name* and *bus_id*.
        uncorrected: volatile uncorrected ECC errors at the first check since the driver loaded.
        nvlinks: the links that were up at once, at most, since the driver loaded.
        pcie_width: the most PCIe lanes seen in this slot since the driver loaded.
        pcie_generation: the fastest PCIe generation seen in this slot since the driver loaded.
        energy: millijoules since the driver loaded or the card was reset; less of it than before is a reset.
        needed_recovery: NVML asked for a reset or reboot, and has not taken it back.
        is_expected: it answered since boot, or since the operator had the probe forget what was.
        xids: by number.
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

    The thread that waits for XIDs writes as well as the check: an XID is on disk before the driver call
    that it makes hang.
    """

    def __init__(
        self, state_dir: Path, boot_id: Callable[[], str] = lambda: BOOT_ID.read_text("ascii").strip()
    ) -> None:
        self.file = state_dir / FILE
        self.lock = threading.RLock()
        self._boot = boot_id()
        self._driver = ""
        self.cards: dict[str, CardRecord] = {}
        self._saved: str = ""
        self._load()

    def _load(self) -> None:
        """Take up what the file says of this boot; a file of another boot, or a broken one, says nothing."""
        try:
            told = json.loads(self.file.read_text("utf-8"))
            if told["boot"] != self._boot:
                return
            self.cards = {uuid: _remembered(card) for uuid, card in told["cards"].items()}
            self._driver = str(told["driver"])
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            self.cards = {}

    def save(self) -> None:
        """Write the file, if anything changed; a reader sees the old one or the new one whole.

        Raises:
            OSError: it cannot be written.
        """
        with self.lock:
            told = json.dumps(
                {"boot": self._boot, "driver": self._driver, "cards": self.cards}, default=_fields_of
            )
            if told == self._saved:
                return
            part = self.file.with_suffix(".part")
            with part.open("w", encoding="utf-8") as file:
                file.write(told)
                file.flush()
                os.fsync(file.fileno())
            part.replace(self.file)
            self._saved = told

    def driver_loaded(self, load: str) -> None:
        """Record the driver *load*, a text unique to each load; a new one ends what a reset ends."""
        with self.lock:
            if self._driver and load != self._driver:
                for card in self.cards.values():
                    _renew(card)
            self._driver = load

    def of(self, card: Card) -> CardRecord:
        """Return the record of *card*, with its present name and place."""
        with self.lock:
            found = self.cards.setdefault(card.uuid, CardRecord(card.index, card.name, card.bus_id))
            if found.bus_id != card.bus_id:  # another slot, with another link
                found.pcie_width = found.pcie_generation = None
            found.index, found.name, found.bus_id = card.index, card.name, card.bus_id
            found.is_expected = True
            return found

    def card_reset(self, card: Card) -> None:
        """End what the reset of *card* ends."""
        with self.lock:
            _renew(self.of(card))

    def others(self, uuids: set[str]) -> dict[str, CardRecord]:
        """Return the cards that are expected and are not among *uuids*."""
        with self.lock:
            cards = self.cards.items()
            return {uuid: card for uuid, card in cards if card.is_expected and uuid not in uuids}

    def xids_of(self, uuid: str) -> dict[int, XidEvent]:
        """Return a copy of the XIDs of the card *uuid*, by number."""
        with self.lock:
            card = self.cards.get(uuid)
            return {} if card is None else {xid: replace(told) for xid, told in sorted(card.xids.items())}

    def record(self, card: Card, xid: int, at: float | None = None) -> None:
        """Record that *xid* came from *card*, now or at the Unix time *at*; it is on disk when this returns.

        Raises:
            OSError: it cannot be written; it is remembered all the same.
        """
        with self.lock:
            happened = self.of(card).xids.setdefault(xid, XidEvent())
            happened.count += 1
            happened.last = time.time() if at is None else at
            happened.is_open = True
            self.save()

    def forget(self) -> None:
        """Forget which cards there were and end every XID; what is broken still shows by itself."""
        with self.lock:
            for card in self.cards.values():
                _renew(card)
                card.is_expected = False

    def open_xids(self) -> int:
        """Count the XIDs that no reset has ended."""
        with self.lock:
            return sum(happened.is_open for card in self.cards.values() for happened in card.xids.values())


def _renew(card: CardRecord) -> None:
    """End what only a reset ends, and let counters begin again; the counts stay."""
    card.uncorrected, card.nvlinks, card.energy, card.needed_recovery = None, [], None, False
    card.pcie_width = card.pcie_generation = None
    for event in card.xids.values():
        event.is_open = False


def _fields_of(told: CardRecord | XidEvent) -> dict[str, Any]:
    return {each.name: getattr(told, each.name) for each in fields(told)}


def _remembered(told: dict[str, Any]) -> CardRecord:
    xids = {int(xid): XidEvent(**happened) for xid, happened in told.pop("xids").items()}
    return CardRecord(**told, xids=xids)
