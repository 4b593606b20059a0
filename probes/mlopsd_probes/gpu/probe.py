"""The GPU probe: a row of looks at each card that NVML lists."""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from itertools import chain
from pathlib import Path
from typing import Any

import pynvml

from mlopsd.probe import Advice, Context, Finding, Probe, Reading, ReloadRefused, Schedule, Status
from mlopsd_probes.gpu import driver_status, presence
from mlopsd_probes.gpu.access import Access, access, is_container
from mlopsd_probes.gpu.driver import Driver
from mlopsd_probes.gpu.history import CardHistory
from mlopsd_probes.gpu.looks import LOOKS, CardCollectors, CardReading
from mlopsd_probes.gpu.nvml import NO_SESSION
from mlopsd_probes.gpu.options import GpuOptions
from mlopsd_probes.gpu.outage import outage as outage_of
from mlopsd_probes.gpu.quantities import several
from mlopsd_probes.gpu.tenants import Tenants
from mlopsd_probes.gpu.xids import Xids

OWN_FINDINGS = ("driver", "gpu_count", "gpu_missing", "gpu_answers", *Xids.findings, "xid_watch", "past")


class GpuProbe(Probe[GpuOptions]):
    """The GPUs of this host as NVML tells: which there are, and each one's troubles.

    NVML is initialised once and only again when it is no longer good. A card in trouble takes its own
    findings and numbers along, not the others'. What a card lacks (ECC, a fan, NVLinks) is left out.
    """

    Options = GpuOptions
    metrics = (presence.DEVICES, *chain.from_iterable(look.metrics for look in LOOKS), *Xids.metrics)
    schedule = Schedule(
        interval=15, timeout=10, fail_after=1, recover_after=2, isolation="process", critical=True
    )
    subject = ("expected_count", "ignored_cards", "sysfs_path")

    def __init__(self, options: GpuOptions, context: Context) -> None:
        super().__init__(options, context)
        self.root = Path(options.sysfs_path).parent
        self.past = CardHistory(context.state_dir)
        self.driver = Driver(Path(options.sysfs_path), self.past, context.log)
        self.looks = CardCollectors(options, self.past)
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
        seen = self.see_all()
        outage = outage_of(seen, self.access)
        if outage is not None:
            seen = [one.without_blame(outage) for one in seen]
        findings = self.judge(seen, outage)
        answering = sum(one.error is None for one in seen)
        samples = [presence.devices(answering), *chain.from_iterable(one.reading.samples for one in seen)]
        return Reading(findings, samples, self.facts(seen), summary=self.summary(findings, answering))

    def see_all(self) -> list[CardReading]:
        """Each card that NVML counts and that is not to be left alone, by index.

        Raises:
            NVMLError: NVML as a whole cannot be spoken to.
        """
        cards = [card for card in self.driver.cards if not self.ignores(card.bus_id, card.uuid)]
        for card in cards:
            self.past.of(card)
        seen = [self.looks.at(card) for card in cards]
        for one in seen:
            if one.error is None:
                self.tenants.note(one.card, one.reading.facts.get("models", ()))
        seen += [self.looks.refused(index, error, cards) for index, error in self.driver.refused.items()]
        return sorted(seen, key=lambda one: one.card.index)

    def access(self) -> Access:
        """Return what this process may reach now, on the host whose sysfs it reads."""
        return access(self.root)

    def judge(self, seen: Sequence[CardReading], outage: Finding | None) -> list[Finding]:
        """The findings of the cards, and which of those that should be there are not."""
        lost = {one.card.index for one in seen if one.is_lost}
        unasked = {one.card.index for one in seen if one.error is not None} - lost
        self.driver.note_loss(lost=bool(lost) or outage is not None)
        listed = [one.card for one in seen]
        gone = self.past.others({card.uuid for card in listed})
        gone = {uuid: card for uuid, card in gone.items() if not self.ignores(card.bus_id, uuid)}
        on_bus = [bus_id for bus_id in self.driver.on_bus if not self.ignores(bus_id, "")]
        findings = [outage or driver_status.present(self.driver.versions)]
        findings += chain.from_iterable(one.reading.findings for one in seen)
        findings += self.looks.open_xids(gone, listed)
        findings += presence.judge(
            self.options, listed, lost, gone, on_bus, unasked=unasked, in_container=is_container(self.root)
        )
        findings += self.watching()
        uuids = {**presence.called(gone, listed), **{card.subject: card.uuid for card in listed}}
        return self.tenants.named(findings, uuids)

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
        findings = [driver_status.absent(error, self.options, on_bus, self.access())]
        if self.options.expected_count != 0:
            findings += self.looks.open_xids(self.past.others(set()), ())
        return Reading(findings, [presence.devices(0)])

    def remembered(self, reading: Reading) -> Reading:
        """*reading*, after what must outlive a restart is on disk."""
        try:
            self.past.save()
        except OSError as error:
            cause = f"cannot write {self.past.file}: {error.strerror}; a restart forgets the XIDs that came"
            finding = Finding("past", Status.DEGRADED, cause, advice=Advice.FREE_RESOURCES)
            return Reading([*reading.findings, finding], reading.samples, reading.facts)
        return reading

    def facts(self, seen: Iterable[CardReading]) -> dict[str, Any]:
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
            raise ReloadRefused(f"cannot write {self.past.file}: {error.strerror}") from error
        self.driver.close()
        return f"forgot {told}; the next check initialises NVML anew"

    def close(self) -> None:
        """Stop waiting for XIDs; the end of the process shuts NVML down."""
        if self.driver.watcher is not None:
            self.driver.watcher.stopping.set()


def summary_of(seen: CardReading) -> dict[str, Any]:
    """A card's line in the facts."""
    card = seen.card
    who = {"index": card.index, "uuid": card.uuid, "name": card.name, "bus_id": card.bus_id}
    return {**who, "status": str(seen.reading.status), **seen.reading.facts}
