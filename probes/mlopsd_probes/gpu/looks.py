"""All looks at one card, whatever becomes of each."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

import pynvml

from mlopsd.probe import Finding, Reading, Status
from mlopsd_probes.gpu import fault
from mlopsd_probes.gpu.card import Card
from mlopsd_probes.gpu.clocks import Clocks
from mlopsd_probes.gpu.ecc import Ecc
from mlopsd_probes.gpu.fabric import Fabric
from mlopsd_probes.gpu.fan import Fan
from mlopsd_probes.gpu.look import Look, Looked
from mlopsd_probes.gpu.memory import Memory
from mlopsd_probes.gpu.mig import Mig, is_split
from mlopsd_probes.gpu.modes import Modes
from mlopsd_probes.gpu.nvlink import NvLink
from mlopsd_probes.gpu.nvml import NO_CARD, NO_SESSION
from mlopsd_probes.gpu.options import GpuOptions
from mlopsd_probes.gpu.past import Past, Remembered
from mlopsd_probes.gpu.pcie import Pcie
from mlopsd_probes.gpu.power import Power
from mlopsd_probes.gpu.processes import Processes
from mlopsd_probes.gpu.recovery import Recovery
from mlopsd_probes.gpu.rows import RemappedRows, RetiredPages
from mlopsd_probes.gpu.temperature import Temperature
from mlopsd_probes.gpu.throttle import Throttle
from mlopsd_probes.gpu.utilization import Utilization
from mlopsd_probes.gpu.xids import Xids

LOOKS: tuple[type[Look], ...] = (
    Modes,
    Mig,
    Recovery,
    Utilization,
    Memory,
    Temperature,
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
class Seen:
    """What was seen of one card; *answers* is whether it told anything at all."""

    card: Card
    answers: bool
    reading: Reading

    @property
    def is_lost(self) -> bool:
        """Whether it is known to be broken, rather than not to be asked."""
        return not self.answers and self.reading.findings[0].status is Status.UNHEALTHY


class Looks:
    """Looks at a card in every way there is; one that fails costs its own findings and no others."""

    def __init__(self, options: GpuOptions, past: Past) -> None:
        self.past = past
        self.all: tuple[Look, ...] = tuple(kind(options, past) for kind in LOOKS)
        self.xids = Xids(options, past)

    def at(self, card: Card) -> Seen:
        """Every look at *card*, or why it does not answer.

        Raises:
            NVMLError: NVML as a whole cannot be spoken to.
        """
        try:
            looked = [*(self.one(look, card) for look in self.all), self.xids.look(card)]
        except pynvml.NVMLError as error:
            if error.value not in NO_CARD:
                raise
            return self.silent(card, error)
        findings = [fault.answers(card), *chain.from_iterable(one.findings for one in looked)]
        samples = list(chain.from_iterable(one.samples for one in looked))
        facts = {key: value for one in looked for key, value in one.facts.items()}
        return Seen(card, answers=True, reading=Reading(findings, samples, facts))

    def one(self, look: Look, card: Card) -> Looked:
        """One *look*, or that it failed; of a card that is split, much is for the privileged alone.

        Raises:
            NVMLError: no look at *card* will do better.
        """
        try:
            return look.look(card)
        except pynvml.NVMLError as error:
            if error.value in NO_SESSION | NO_CARD:
                raise
            if error.value == pynvml.NVML_ERROR_NO_PERMISSION and is_split(card.handle):
                return Looked()
            return Looked([fault.unreadable(look.name, card, error, judged=bool(look.findings))])

    def silent(self, card: Card, error: pynvml.NVMLError) -> Seen:
        """A card that does not answer has no numbers; its XIDs tell why."""
        xids = self.xids.look(card)
        reading = Reading([fault.silent(card, error), *xids.findings], xids.samples)
        return Seen(card, answers=False, reading=reading)

    def refused(self, index: int, error: pynvml.NVMLError, cards: Iterable[Card]) -> Seen:
        """A card that NVML counts and says nothing of; if one of its index was there, it is that one."""
        gone = self.past.others({card.uuid for card in cards})
        known = ((uuid, card) for uuid, card in gone.items() if card.index == index)
        uuid, card = next(known, ("", Remembered(index, "GPU", "")))
        return self.silent(Card(index, uuid, card.name, card.bus_id), error)

    def open_xids(self, gone: dict[str, Remembered], listed: Iterable[Card]) -> list[Finding]:
        """The findings of cards that are gone, by the XIDs that they went with."""
        taken = {card.index for card in listed}
        cards = [Card(card.index, uuid, card.name, card.bus_id) for uuid, card in gone.items()]
        findings = chain(*(self.xids.look(card).findings for card in cards if card.index not in taken))
        return [finding for finding in findings if finding.status is not Status.HEALTHY]
