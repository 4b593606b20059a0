"""All looks at one card, whatever becomes of each."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain

import pynvml

from mlopsd.probe import Finding, Reading, Status
from mlopsd_probes.gpu import card_errors
from mlopsd_probes.gpu.card import Card
from mlopsd_probes.gpu.clocks import Clocks
from mlopsd_probes.gpu.ecc import Ecc
from mlopsd_probes.gpu.fabric import Fabric
from mlopsd_probes.gpu.fan import Fan
from mlopsd_probes.gpu.history import CardHistory, Remembered
from mlopsd_probes.gpu.look import CardCollector, CardResult
from mlopsd_probes.gpu.memory import CardMemory
from mlopsd_probes.gpu.mig import Mig, is_split
from mlopsd_probes.gpu.modes import Modes
from mlopsd_probes.gpu.nvlink import NvLink
from mlopsd_probes.gpu.nvml import NO_CARD, NO_SESSION
from mlopsd_probes.gpu.options import GpuOptions
from mlopsd_probes.gpu.pcie import Pcie
from mlopsd_probes.gpu.power import Power
from mlopsd_probes.gpu.processes import Processes
from mlopsd_probes.gpu.recovery import Recovery
from mlopsd_probes.gpu.remapped_rows import RemappedRows, RetiredPages
from mlopsd_probes.gpu.temperature import CardTemperature
from mlopsd_probes.gpu.throttle import Throttle
from mlopsd_probes.gpu.utilization import Utilization
from mlopsd_probes.gpu.xids import Xids

LOOKS: tuple[type[CardCollector], ...] = (
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
    """What was seen of one card.

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


class CardCollectors:
    """Looks at a card in every way there is; one that fails costs its own findings and no others."""

    def __init__(self, options: GpuOptions, past: CardHistory) -> None:
        self.past = past
        self.all: tuple[CardCollector, ...] = tuple(kind(options, past) for kind in LOOKS)
        self.xids = Xids(options, past)

    def at(self, card: Card) -> CardReading:
        """Every look at *card*, or why it does not answer.

        Raises:
            NVMLError: NVML as a whole cannot be spoken to.
        """
        try:
            looked = [*self.each(card), self.xids.look(card)]
        except pynvml.NVMLError as error:
            if error.value in NO_SESSION:
                raise
            return self.silent(card, error, card_errors.fault_of(error))
        findings = [card_errors.answers(card), *chain.from_iterable(one.findings for one in looked)]
        samples = list(chain.from_iterable(one.samples for one in looked))
        facts = {key: value for one in looked for key, value in one.facts.items()}
        return CardReading(card, Reading(findings, samples, facts))

    def each(self, card: Card) -> Iterator[CardResult]:
        """Yield what each look finds, or that it failed.

        Raises:
            NVMLError: no look at *card* will do better.
        """
        answers = False
        for look in self.all:
            try:
                found = look.look(card)
            except pynvml.NVMLError as error:
                if error.value in NO_SESSION | NO_CARD:
                    raise
                if not answers:
                    require_answer(card)
                    answers = True
                found = failed(look, card, error)
            yield found

    def silent(self, card: Card, error: pynvml.NVMLError, why: card_errors.Fault) -> CardReading:
        """A card that does not answer has no numbers; its XIDs tell why."""
        xids = self.xids.look(card)
        reading = Reading([card_errors.silent(card, why), *xids.findings], xids.samples)
        is_explained = error.value in NO_CARD or self.xids.fell_off(card)
        return CardReading(card, reading, error, why.is_loss, is_unexplained=why.is_loss and not is_explained)

    def refused(self, index: int, error: pynvml.NVMLError, cards: Iterable[Card]) -> CardReading:
        """A card that NVML counts and says nothing of; if one of its index was there, it is that one."""
        gone = self.past.others({card.uuid for card in cards})
        known = ((uuid, card) for uuid, card in gone.items() if card.index == index)
        uuid, card = next(known, ("", Remembered(index, "GPU", "")))
        known_as = Card(index, uuid, card.name, card.bus_id)
        return self.silent(known_as, error, card_errors.refusal_of(error))

    def open_xids(self, gone: dict[str, Remembered], listed: Iterable[Card]) -> list[Finding]:
        """The findings of cards that are gone, by the XIDs that they went with."""
        taken = {card.index for card in listed}
        cards = [Card(card.index, uuid, card.name, card.bus_id) for uuid, card in gone.items()]
        findings = chain(*(self.xids.look(card).findings for card in cards if card.index not in taken))
        return [finding for finding in findings if finding.status is not Status.HEALTHY]


def require_answer(card: Card) -> None:
    """Ask *card* for what every card has.

    Raises:
        NVMLError: it answers nothing else.
    """
    error = card_errors.shared_error(card)
    if error is not None and not is_withheld(card, error):
        raise error


def failed(look: CardCollector, card: Card, error: pynvml.NVMLError) -> CardResult:
    """Return what is left of a look that *error* has ended."""
    if is_withheld(card, error):
        return CardResult()
    return CardResult([card_errors.unreadable(look.name, card, error, judged=bool(look.findings))])


def is_withheld(card: Card, error: pynvml.NVMLError) -> bool:
    """Return whether *error* is usual: much of a card in MIG mode is for root alone."""
    return error.value == pynvml.NVML_ERROR_NO_PERMISSION and is_split(card.handle)
