"""The GPU probe: a row of looks at each card that NVML lists."""

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import chain
from pathlib import Path
from typing import Any

import pynvml

from mlopsd.probe import Advice, Context, Finding, Probe, Reading, Refused, Schedule, Status
from mlopsd_probes.gpu import count, fault, session
from mlopsd_probes.gpu.card import Card
from mlopsd_probes.gpu.clocks import Clocks
from mlopsd_probes.gpu.driver import Driver
from mlopsd_probes.gpu.ecc import Ecc
from mlopsd_probes.gpu.fabric import Fabric
from mlopsd_probes.gpu.fan import Fan
from mlopsd_probes.gpu.look import Look
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
from mlopsd_probes.gpu.quantities import several
from mlopsd_probes.gpu.recovery import Recovery
from mlopsd_probes.gpu.rows import RemappedRows, RetiredPages
from mlopsd_probes.gpu.temperature import Temperature
from mlopsd_probes.gpu.tenants import Tenants
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
OWN_FINDINGS = ("driver", "gpu_count", "gpu_missing", "gpu_answers", *Xids.findings, "xid_watch", "past")


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


class GpuProbe(Probe[GpuOptions]):
    """The GPUs of this host as NVML tells: which there are, and each one's troubles.

    NVML is initialised once and only again when it is no longer good. A card in trouble takes its own
    findings and numbers along, not the others'. What a card lacks (ECC, a fan, NVLinks) is left out.
    """

    Options = GpuOptions
    metrics = (count.DEVICES, *chain.from_iterable(look.metrics for look in LOOKS), *Xids.metrics)
    schedule = Schedule(interval=15, timeout=10, fail_after=1, recover_after=2, isolation="process")

    def __init__(self, options: GpuOptions, context: Context) -> None:
        super().__init__(options, context)
        self.past = Past(context.state_dir)
        self.driver = Driver(Path(options.sysfs_path), self.past, context.log)
        self.looks: tuple[Look, ...] = tuple(kind(options, self.past) for kind in LOOKS)
        self.xids = Xids(options, self.past)
        self.tenants = Tenants()

    def check(self) -> Reading:
        """Look at every card once; if NVML is no longer initialised, initialise it once more."""
        try:
            try:
                reading = self.look_at_all()
            except pynvml.NVMLError as error:
                if error.value not in NO_SESSION or not self.driver.is_open:
                    raise
                self.driver.close()
                reading = self.look_at_all()
        except pynvml.NVMLError as error:
            mismatch = error.value == pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH
            self.driver.close(forget_library=mismatch)
            reading = self.without_nvml(error)
        return self.remembered(reading)

    def look_at_all(self) -> Reading:
        """What there is to see.

        Raises:
            NVMLError: NVML as a whole cannot be spoken to.
        """
        self.driver.ready()
        cards = [card for card in self.driver.cards if not self.ignores(card.bus_id, card.uuid)]
        for card in cards:
            self.past.of(card)
        seen = [self.see(card) for card in cards]
        seen += [self.refused(index, error, cards) for index, error in self.driver.refused.items()]
        seen.sort(key=lambda one: one.card.index)
        lost = {one.card.index for one in seen if one.is_lost}
        self.driver.note_loss(lost=bool(lost))
        listed = [one.card for one in seen]
        gone = self.past.others({card.uuid for card in listed})
        gone = {uuid: card for uuid, card in gone.items() if not self.ignores(card.bus_id, uuid)}
        on_bus = [bus_id for bus_id in self.driver.on_bus if not self.ignores(bus_id, "")]
        findings = [session.present(self.driver.versions)]
        findings += chain(*(one.reading.findings for one in seen), self.open_xids(gone, listed))
        findings += count.judge(self.options, listed, lost, gone, on_bus) + self.watching()
        findings = self.tenants.named(
            findings, {**count.called(gone, listed), **{c.subject: c.uuid for c in listed}}
        )
        answering = sum(one.answers for one in seen)
        samples = [count.devices(answering), *chain(*(one.reading.samples for one in seen))]
        return Reading(findings, samples, self.facts(seen), summary=self.summary(findings, answering))

    def see(self, card: Card) -> Seen:
        """Every look at *card*, or why it does not answer.

        Raises:
            NVMLError: NVML as a whole cannot be spoken to.
        """
        readings = []
        for look in self.looks:
            try:
                readings.append(look.look(card))
            except pynvml.NVMLError as error:
                if error.value in NO_SESSION:
                    raise
                if error.value in NO_CARD:
                    return self.silent(card, error)
                readings.append(self.failed(look, card, error))
        readings.append(self.xids.look(card))
        findings = [fault.answers(card), *chain(*(reading.findings for reading in readings))]
        samples = list(chain(*(reading.samples for reading in readings)))
        facts = {key: value for reading in readings for key, value in reading.facts.items()}
        self.tenants.note(card, facts.get("models", ()))
        return Seen(card, answers=True, reading=Reading(findings, samples, facts))

    def failed(self, look: Look, card: Card, error: pynvml.NVMLError) -> Reading:
        """The reading of a look that failed; of a card that is split, much is for the privileged alone."""
        if error.value == pynvml.NVML_ERROR_NO_PERMISSION and is_split(card.handle):
            return Reading()
        return Reading([fault.unreadable(look.name, card, error, judged=bool(look.findings))])

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

    def watching(self) -> list[Finding]:
        """Whether XIDs are waited for; nothing where no card tells any."""
        watcher = self.driver.watcher
        if watcher is None or not watcher.cards:
            return []
        if watcher.trouble is not None:
            summary = f"XIDs are missed at present: {watcher.trouble}"
            return [Finding("xid_watch", Status.DEGRADED, summary, advice=Advice.WATCH)]
        summary = f"the XIDs of {several(len(watcher.cards), 'GPU')} are waited for"
        return [Finding("xid_watch", Status.HEALTHY, summary)]

    def without_nvml(self, error: pynvml.NVMLError) -> Reading:
        """No card can be looked at; what was remembered of them is still so."""
        on_bus = {bus: driver for bus, driver in self.driver.on_bus.items() if not self.ignores(bus, "")}
        findings = [session.absent(error, self.options, on_bus)]
        if self.options.expected_count != 0:
            findings += self.open_xids(self.past.others(set()), ())
        return Reading(findings, [count.devices(0)])

    def remembered(self, reading: Reading) -> Reading:
        """*reading*, after what must outlive a restart is on disk."""
        try:
            self.past.save()
        except OSError as error:
            cause = f"cannot write {self.past.file}: {error.strerror}; a restart forgets the XIDs that came"
            finding = Finding("past", Status.DEGRADED, cause, advice=Advice.FREE_RESOURCES)
            return Reading([*reading.findings, finding], reading.samples, reading.facts)
        return reading

    def facts(self, seen: Iterable[Seen]) -> dict[str, Any]:
        """Versions, and each card in short."""
        versions = self.driver.versions
        told = {"driver": versions.driver, "nvml": versions.nvml, "cuda": versions.cuda}
        watcher = self.driver.watcher
        unwatched = [] if watcher is None else [card.index for card in watcher.unwatched]
        facts: dict[str, Any] = {key: value for key, value in told.items() if value}
        if unwatched:
            facts["xids_not_told_by"] = unwatched
        return {**facts, "gpus": [summary_of(one) for one in seen]}

    def summary(self, findings: Iterable[Finding], answering: int) -> str:
        """Left to the findings, unless all is well."""
        if any(finding.status is not Status.HEALTHY for finding in findings):
            return ""
        return f"{several(answering, 'GPU')}, all healthy"

    def ignores(self, bus_id: str, uuid: str) -> bool:
        """Whether the operator wants that card left alone."""
        patterns = self.options.ignored_cards
        return any(fnmatchcase(name, pattern) for pattern in patterns for name in (bus_id, uuid) if name)

    def reload(self, *, dry_run: bool, force: bool) -> str:
        """Forget which cards there were and the XIDs that came; the next check initialises NVML anew.

        Raises:
            Refused: it would be back after a restart, since the state folder cannot be written.
        """
        told = f"{several(self.past.open_xids(), 'XID')} that wait for a reset, and which GPUs there were"
        if dry_run:
            return f"would forget {told}"
        self.past.forget()
        try:
            self.past.save()
        except OSError as error:
            raise Refused(f"cannot write {self.past.file}: {error.strerror}") from error
        self.driver.close()
        return f"forgot {told}; the next check initialises NVML anew"

    def close(self) -> None:
        """Stop waiting for XIDs; the end of the process shuts NVML down."""
        if self.driver.watcher is not None:
            self.driver.watcher.stopping.set()


def summary_of(seen: Seen) -> dict[str, Any]:
    """A card's line in the facts."""
    card = seen.card
    who = {"index": card.index, "uuid": card.uuid, "name": card.name, "bus_id": card.bus_id}
    return {**who, "status": str(seen.reading.status), **seen.reading.facts}
