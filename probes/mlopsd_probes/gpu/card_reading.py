"""The reading of one card in a check; a failed collector loses only its own findings."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain

import pynvml

from mlopsd.probe import Finding, Reading, Status
from mlopsd_probes.collector import join
from mlopsd_probes.gpu import card_errors
from mlopsd_probes.gpu.card import Card
from mlopsd_probes.gpu.clocks import Clocks
from mlopsd_probes.gpu.collector import CardCollector
from mlopsd_probes.gpu.ecc import Ecc, RemappedRows, RetiredPages
from mlopsd_probes.gpu.history import CardHistory, CardRecord
from mlopsd_probes.gpu.memory import CardMemory
from mlopsd_probes.gpu.mig import Mig, is_split
from mlopsd_probes.gpu.modes import Modes
from mlopsd_probes.gpu.nvlink import Fabric, NvLink
from mlopsd_probes.gpu.nvml import NO_CARD, NO_SESSION
from mlopsd_probes.gpu.options import GpuOptions
from mlopsd_probes.gpu.pcie import Pcie
from mlopsd_probes.gpu.power import Power
from mlopsd_probes.gpu.processes import Processes
from mlopsd_probes.gpu.recovery import Recovery
from mlopsd_probes.gpu.temperature import CardTemperature, Fan
from mlopsd_probes.gpu.throttle import Throttle
from mlopsd_probes.gpu.utilization import Utilization
from mlopsd_probes.gpu.xids import Xids

COLLECTORS: tuple[type[CardCollector], ...] = (
    Modes,
    Mig,
    Recovery,
    Utilization,
    CardMemory,
    CardTemperature,
    Power,
    Clocks,
    Throttle,
    Fan,
    Ecc,
    RemappedRows,
    RetiredPages,
    Pcie,
    NvLink,
    Fabric,
    Processes,
)


@dataclass(frozen=True, slots=True)
class CardReading:
    """The result of one check of a card.

    Attributes:
        card: the card.
        reading: its findings, numbers and facts.
        error: the error that every call gives; None if the card answers.
        is_lost: the card is known to be broken; False also if the probe only cannot ask it.
        is_unexplained: it is lost, and neither the error nor an XID names the cause.
    """

    card: Card
    reading: Reading
    error: pynvml.NVMLError | None = None
    is_lost: bool = False
    is_unexplained: bool = False

    def without_blame(self, outage: Finding) -> "CardReading":
        """Return the same card, with *outage* of the whole host as the reason of its silence."""
        if not self.is_unexplained:
            return self
        findings = [finding for finding in self.reading.findings if finding.name != "gpu_answers"]
        reading = Reading(findings, self.reading.samples, status=outage.status, summary=outage.summary)
        return replace(self, reading=reading, is_lost=outage.status is Status.UNHEALTHY)

    def in_container(self) -> "CardReading":
        """Return the same card as read in a container, which may have lost its devices."""
        is_unknown = self.error is not None and self.error.value == pynvml.NVML_ERROR_UNKNOWN
        if not (self.is_unexplained and is_unknown):
            return self
        own = card_errors.silent(self.card, card_errors.MAYBE_TAKEN_AWAY, lasting=False)
        findings = [own if finding.name == own.name else finding for finding in self.reading.findings]
        return replace(self, reading=Reading(findings, self.reading.samples))


class CardCollectors:
    """Every collector of a card."""

    def __init__(self, options: GpuOptions, history: CardHistory) -> None:
        self._history = history
        self._all: tuple[CardCollector, ...] = tuple(kind(options, history) for kind in COLLECTORS)
        self._xids = Xids(options, history)

    def collect(self, card: Card) -> CardReading:
        """Return the joined readings of *card*, or the reason why it does not answer.

        Raises:
            NVMLError: NVML as a whole fails.
        """
        try:
            readings = [*self._each(card), self._xids.collect(card)]
        except pynvml.NVMLError as error:
            if error.value in NO_SESSION:
                raise
            return self._silent(card, error, card_errors.fault_of(error))
        return CardReading(card, join([Reading([card_errors.answers(card)]), *readings]))

    def _each(self, card: Card) -> Iterator[Reading]:
        """Yield the reading of each collector, or a finding that it failed.

        Raises:
            NVMLError: every further call for *card* would fail too.
        """
        answers = False
        for collector in self._all:
            try:
                reading = collector.collect(card)
            except pynvml.NVMLError as error:
                if error.value in NO_SESSION | NO_CARD:
                    raise
                if not answers:
                    _require_answer(card)
                    answers = True
                reading = Reading() if _is_withheld(card, error) else collector.explain(card, error)
            yield reading

    def collect_unidentified(self, index: int, error: pynvml.NVMLError, cards: Iterable[Card]) -> CardReading:
        """Return a card that NVML counts but cannot identify.

        It is taken for the known card of this index, unless that is among *cards*.
        """
        gone = self._history.others({card.uuid for card in cards})
        known = ((uuid, card) for uuid, card in gone.items() if card.index == index)
        uuid, card = next(known, ("", CardRecord(index, "GPU", "")))
        known_as = Card(index, uuid, card.name, card.bus_id)
        return self._silent(known_as, error, card_errors.fault_without_identity(error))

    def open_xids(self, gone: dict[str, CardRecord], listed: Iterable[Card]) -> list[Finding]:
        """Return the XID findings of cards that are gone."""
        taken = {card.index for card in listed}
        cards = [Card(card.index, uuid, card.name, card.bus_id) for uuid, card in gone.items()]
        findings = chain(*(self._xids.collect(card).findings for card in cards if card.index not in taken))
        return [finding for finding in findings if finding.status is not Status.HEALTHY]

    def _silent(self, card: Card, error: pynvml.NVMLError, why: card_errors.CardFault) -> CardReading:
        """Return a card that does not answer: it has no numbers, and its XIDs may name the cause."""
        xids = self._xids.collect(card)
        is_explained = error.value in NO_CARD or self._xids.fell_off(card)
        own = card_errors.silent(card, why, lasting=why.is_loss and is_explained)
        reading = Reading([own, *xids.findings], xids.samples)
        return CardReading(card, reading, error, why.is_loss, is_unexplained=why.is_loss and not is_explained)


def _require_answer(card: Card) -> None:
    """Check that *card* answers an essential query.

    Raises:
        NVMLError: the error that every essential query gives.
    """
    error = card_errors.shared_error(card)
    if error is not None and not _is_withheld(card, error):
        raise error


def _is_withheld(card: Card, error: pynvml.NVMLError) -> bool:
    """Return true if *error* is normal: only root may read much of a card in MIG mode."""
    return error.value == pynvml.NVML_ERROR_NO_PERMISSION and is_split(card.handle)
