"""An initialised NVML: its cards, the cards on the PCI bus, and the reasons to initialise it again."""

import _ctypes
import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pynvml

from mlopsd.pci_bus import PciBus
from mlopsd_probes.gpu.card import Card, card_of
from mlopsd_probes.gpu.card_errors import fault_without_identity
from mlopsd_probes.gpu.history import CardHistory
from mlopsd_probes.gpu.nvml import LACKING, NO_SESSION, ask, text
from mlopsd_probes.gpu.watcher import Watcher

LOST_RETRY = 300.0  # seconds; a lost card may come back, and initialising takes seconds per card
CUDA_THOUSAND = 1000


@dataclass(frozen=True, slots=True)
class Versions:
    """The versions of the driver, NVML and CUDA; "" if unknown."""

    driver: str = ""
    nvml: str = ""
    cuda: str = ""


class Driver:
    """One initialisation of NVML, kept as long as it is valid.

    Without persistence mode ``nvmlInit`` takes seconds per card. So it is repeated only in four cases:

    - NVML asks for it.
    - The driver was reloaded.
    - sysfs shows other cards.
    - A card was lost a while ago (`LOST_RETRY`).

    Attributes:
        cards: the cards that NVML lists and identifies.
        unidentified: the errors of the other listed cards, by index.
    """

    def __init__(
        self,
        sysfs: Path,
        history: CardHistory,
        log: logging.Logger,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sysfs = sysfs
        self._bus = PciBus(sysfs)
        self._history = history
        self._log = log
        self._clock = clock
        self.is_open = False
        self.cards: tuple[Card, ...] = ()
        self.unidentified: dict[int, pynvml.NVMLError] = {}
        self.versions = Versions()
        self.watcher: Watcher | None = None
        self._load = ""
        self.on_bus: Mapping[str, str] = {}
        self._tried: frozenset[str] = (
            frozenset()
        )  # the difference from sysfs that remained after initialising
        self._lost_since: float | None = None

    def ready(self) -> None:
        """Initialise NVML if it is not initialised or no longer valid.

        Raises:
            NVMLError: it cannot be initialised.
        """
        self.on_bus = self._bus.cards()
        if self.is_open and (why := self._stale()):
            self._log.info("NVML reinitialised", extra={"reason": why})
            self.close()
        if not self.is_open:
            self._open()

    def _stale(self) -> str | None:
        """Return the reason why this initialisation is no longer valid, or None.

        Raises:
            NVMLError: NVML itself reports it.
        """
        if driver_load(self._sysfs) != self._load:
            return "the driver was reloaded"
        if pynvml.nvmlDeviceGetCount() != len(self.cards) + len(self.unidentified):
            return "the number of GPUs has changed"
        if any(map(self.can_be_asked, self.unidentified)):
            return "a GPU that could not be identified now answers"
        if self._disagreement() - self._tried:
            return "the PCI bus shows other GPUs"
        return self.overdue()

    def overdue(self) -> str | None:
        """Return the reason to initialise again although NVML does not ask for it, or None."""
        if self.watcher is not None and self.watcher.cards and not self.watcher.thread.is_alive():
            return "the thread that waits for XIDs has ended"
        if self._lost_since is not None and self._clock() - self._lost_since >= LOST_RETRY:
            return "a GPU was lost a while ago and may be back"
        return None

    def can_be_asked(self, index: int) -> bool:
        """Return true if an unidentified card that is not lost answers by now."""
        if fault_without_identity(self.unidentified[index]).is_loss:
            return False  # the driver may take seconds to fail again; see `LOST_RETRY`
        try:
            pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetHandleByIndex(index))
        except pynvml.NVMLError as error:
            if error.value in NO_SESSION:
                raise
            return error.value in LACKING
        return True

    def _disagreement(self) -> frozenset[str]:
        """Return PCI addresses, with drivers, that only NVML or only sysfs lists; none without sysfs."""
        if not self.on_bus or self.unidentified:
            return frozenset()
        apart = {card.bus_id for card in self.cards} ^ set(self.on_bus)
        return frozenset(f"{bus_id} {self.on_bus.get(bus_id, '')}" for bus_id in apart)

    def _open(self) -> None:
        """Initialise NVML, list the cards, and start to wait for their XIDs.

        Raises:
            NVMLError: NVML cannot be initialised, or fails at once.
        """
        pynvml.nvmlInit()
        self.is_open = True
        self._load = driver_load(self._sysfs)
        self.versions = _read_versions()
        self._history.driver_loaded(f"{self.versions.driver} {self._load}".strip())
        self._list_cards()
        self._tried = self._disagreement()
        self._lost_since = None
        self._watch()

    def _list_cards(self) -> None:
        """Identify every card that NVML counts; keep the error of a card that it cannot identify."""
        cards, self.unidentified = [], {}
        for index in range(pynvml.nvmlDeviceGetCount()):
            try:
                cards.append(card_of(pynvml.nvmlDeviceGetHandleByIndex(index), index, self.versions.driver))
            except pynvml.NVMLError as error:
                if error.value in NO_SESSION:
                    raise
                self.unidentified[index] = error
        self.cards = tuple(cards)

    def _watch(self) -> None:
        """Wait for XIDs, if this NVML has events."""
        try:
            self.watcher = Watcher(self.cards, self._record_xid)
        except pynvml.NVMLError as error:
            if error.value not in LACKING:
                raise
            self.watcher = None

    def _record_xid(self, card: Card, xid: int) -> None:
        """Record and log *xid*; runs in the watcher's thread.

        Raises:
            OSError: it cannot be written.
        """
        self._history.record(card, xid)
        self._log.warning(
            "XID", extra={"gpu": card.index, "uuid": card.uuid, "bus_id": card.bus_id, "xid": xid}
        )

    def note_loss(self, *, lost: bool) -> None:
        """Record the time since which a card is *lost*."""
        if not lost:
            self._lost_since = None
        elif self._lost_since is None:
            self._lost_since = self._clock()

    def close(self, *, forget_library: bool = False) -> None:
        """Shut NVML down, unless a thread hangs in it.

        With *forget_library* the next `ready` loads the library from disk: after an upgrade the library in
        memory belongs to the old driver.
        """
        ended = self.watcher is None or self.watcher.stop()
        if self.is_open and ended:
            with contextlib.suppress(pynvml.NVMLError):  # it is shut down already, or its driver is gone
                pynvml.nvmlShutdown()
        if forget_library and ended:
            _unload()
        self.is_open, self.watcher, self.cards, self.unidentified = False, None, (), {}


def _read_versions() -> Versions:
    """Read ``nvmlSystemGet{Driver,NVML,CudaDriver}Version``."""
    no_cuda = LACKING | {pynvml.NVML_ERROR_LIBRARY_NOT_FOUND}
    cuda = ask(pynvml.nvmlSystemGetCudaDriverVersion_v2, lacking=no_cuda)
    return Versions(
        text(ask(pynvml.nvmlSystemGetDriverVersion)),
        text(ask(pynvml.nvmlSystemGetNVMLVersion)),
        "" if cuda is None else f"{cuda // CUDA_THOUSAND}.{cuda % CUDA_THOUSAND // 10}",
    )


def _unload() -> None:
    """Make pynvml load the library again; otherwise it keeps it as long as the process runs."""
    if pynvml.nvmlLib is not None:
        _ctypes.dlclose(pynvml.nvmlLib._handle)  # noqa: SLF001  # ctypes has no other way to close a library
        pynvml.nvmlLib = None
        pynvml._nvmlGetFunctionPointer_cache.clear()  # noqa: SLF001  # pynvml has no call that forgets the library


def driver_load(sysfs: Path) -> str:
    """Return an id of this load of the driver: the inode of its folder, which the kernel never reuses."""
    try:
        return str((sysfs / "module/nvidia").stat().st_ino)
    except OSError:
        return ""
