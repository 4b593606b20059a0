"""All that is read of one card in a check; a collector that fails costs its own findings and no others."""

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
    """All that is known of one card after a check.

    Attributes:
        card: which one.
        reading: its findings, numbers and facts.
        error: what it answers to everything; None if it answers.
        is_lost: it is known to be broken, rather than not to be asked.
        is_unexplained: it is lost, and neither the error nor an XID names the cause.
    """

    card: Card
    reading: Reading
    error: pynvml.NVMLError | None = None
    is_lost: bool = False
    is_unexplained: bool = False

    def without_blame(self, outage: Finding) -> "CardReading":
        """Return the same card where *outage* of the whole host says why it does not answer."""
        if not self.is_unexplained:
            return self
        findings = [finding for finding in self.reading.findings if finding.name != "gpu_answers"]
        reading = Reading(findings, self.reading.samples, status=outage.status)
        return replace(self, reading=reading, is_lost=outage.status is Status.UNHEALTHY)

    def in_container(self) -> "CardReading":
        """Return the same card, read from a container whose devices may have been taken away."""
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
        """Return what all collectors found of *card*, or why it does not answer.

        Raises:
            NVMLError: NVML as a whole cannot be spoken to.
        """
        try:
            readings = [*self._each(card), self._xids.collect(card)]
        except pynvml.NVMLError as error:
            if error.value in NO_SESSION:
                raise
            return self._silent(card, error, card_errors.fault_of(error))
        return CardReading(card, join([Reading([card_errors.answers(card)]), *readings]))

    def _each(self, card: Card) -> Iterator[Reading]:
        """Yield what each collector finds, or that it failed.

        Raises:
            NVMLError: no further call for *card* will do better.
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

    def collect_refused(self, index: int, error: pynvml.NVMLError, cards: Iterable[Card]) -> CardReading:
        """Return a card that NVML counts and says nothing of.

        If a card of its index was there and is not among *cards*, it is that one.
        """
        gone = self._history.others({card.uuid for card in cards})
        known = ((uuid, card) for uuid, card in gone.items() if card.index == index)
        uuid, card = next(known, ("", CardRecord(index, "GPU", "")))
        known_as = Card(index, uuid, card.name, card.bus_id)
        return self._silent(known_as, error, card_errors.refusal_of(error))

    def open_xids(self, gone: dict[str, CardRecord], listed: Iterable[Card]) -> list[Finding]:
        """Return the findings of cards that are gone, by the XIDs that they went with."""
        taken = {card.index for card in listed}
        cards = [Card(card.index, uuid, card.name, card.bus_id) for uuid, card in gone.items()]
        findings = chain(*(self._xids.collect(card).findings for card in cards if card.index not in taken))
        return [finding for finding in findings if finding.status is not Status.HEALTHY]

    def _silent(self, card: Card, error: pynvml.NVMLError, why: card_errors.CardFault) -> CardReading:
        """Return a card that does not answer: it has no numbers, and its XIDs tell why."""
        xids = self._xids.collect(card)
        is_explained = error.value in NO_CARD or self._xids.fell_off(card)
        own = card_errors.silent(card, why, lasting=why.is_loss and is_explained)
        reading = Reading([own, *xids.findings], xids.samples)
        return CardReading(card, reading, error, why.is_loss, is_unexplained=why.is_loss and not is_explained)


def _require_answer(card: Card) -> None:
    """Ask *card* for what every card has.

    Raises:
        NVMLError: it answers nothing else.
    """
    error = card_errors.shared_error(card)
    if error is not None and not _is_withheld(card, error):
        raise error


def _is_withheld(card: Card, error: pynvml.NVMLError) -> bool:
    """Return true if *error* is usual: much of a card in MIG mode is for root alone."""
    return error.value == pynvml.NVML_ERROR_NO_PERMISSION and is_split(card.handle)
