"""The GPU probe: a row of collectors for each card that NVML lists."""

import time
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from itertools import chain
from pathlib import Path
from typing import Any

import pynvml
from typing_extensions import override

from mlopsd.format import format_count
from mlopsd.probe import (
    Advice,
    Column,
    Context,
    Diagnosis,
    Finding,
    Probe,
    Reading,
    ReloadRefused,
    Schedule,
    Setup,
    Status,
    SubjectTable,
)
from mlopsd_probes.background_call import BackgroundCall, wait_for
from mlopsd_probes.container import is_container
from mlopsd_probes.gpu import diagnosis, driver_status, hung_call, memory, power, presence
from mlopsd_probes.gpu.card_reading import COLLECTORS, CardCollectors, CardReading
from mlopsd_probes.gpu.driver import Driver
from mlopsd_probes.gpu.driver_status import Access, access
from mlopsd_probes.gpu.history import CardHistory
from mlopsd_probes.gpu.nvml import NO_SESSION
from mlopsd_probes.gpu.options import GpuOptions
from mlopsd_probes.gpu.processes import Tenants
from mlopsd_probes.gpu.temperature import LIMIT, TEMPERATURE
from mlopsd_probes.gpu.utilization import UTILIZATION
from mlopsd_probes.gpu.xids import Xids

PATIENCE = 0.8  # of a check's timeout; then the reading names the call that does not return
HUNG_RETRY = 300.0  # seconds
CARDS = SubjectTable(
    label="gpu",
    columns=(
        Column("Busy", UTILIZATION, {"engine": "compute"}, has_trend=True),
        Column("Memory", memory.USED, limit=memory.TOTAL, has_trend=True),
        Column("Temperature", TEMPERATURE, {"sensor": "gpu"}, LIMIT, {"limit": "slowdown"}, has_trend=True),
        Column("Power", power.DRAW, limit=power.LIMIT, has_trend=True),
    ),
    fact="gpus",
    key="index",
    texts={"name": "Card", "models": "Model"},
)
OWN_FINDINGS = ("driver", "gpu_count", "gpu_missing", "gpu_answers", *Xids.findings, "xid_watch", "past")


class GpuProbe(Probe[GpuOptions]):
    """The GPUs of this host as NVML reports them: their number, and the faults of each.

    NVML is initialised once, and again only when it is no longer valid. A faulty card does not affect the
    findings and numbers of other cards. Values that a card lacks (ECC, a fan, NVLinks) are left out.
    """

    Options = GpuOptions
    metrics = (presence.DEVICES, *chain.from_iterable(kind.metrics for kind in COLLECTORS), *Xids.metrics)
    table = CARDS
    schedule = Schedule(
        interval=15, timeout=10, fail_after=1, recover_after=2, isolation="process", critical=True
    )
    subject = ("expected_count", "ignored_cards", "sysfs_path")

    def __init__(self, options: GpuOptions, context: Context) -> None:
        super().__init__(options, context)
        self._root = Path(options.sysfs_path).parent
        self._history = CardHistory(context.state_dir)
        self._driver = Driver(Path(options.sysfs_path), self._history, context.log)
        self._collectors = CardCollectors(options, self._history)
        self._tenants = Tenants()
        self._call: BackgroundCall[Reading] | None = None  # that has not returned

    @classmethod
    def diagnose(cls, setup: Setup[GpuOptions]) -> Iterable[Diagnosis]:
        """Return whether each card on the PCI bus is watched."""
        return diagnosis.diagnose(setup)

    def check(self) -> Reading:
        """Collect from every card, in a thread, since a call of a hung driver never returns."""
        call = self._call or BackgroundCall(self._check, "collect from the GPUs")
        wait_for([call], PATIENCE * self.context.timeout)
        if call.answer.done():
            self._call, self._history.hung_since = None, None
            return self._save_history(call.answer.result())
        self._call = call
        if call.age > HUNG_RETRY:
            call.answer.result()  # the daemon then replaces this process, and another one may get an answer
        return self._save_history(self._hung(call))

    def _hung(self, call: BackgroundCall[Reading]) -> Reading:
        """Return the reading while the driver does not answer: the first time it may only be slow."""
        now = time.time()
        is_first = self._history.hung_since is None
        since = now - call.age if self._history.hung_since is None else self._history.hung_since
        self._history.hung_since = since
        place = hung_call.describe(call.thread.ident)
        return Reading([driver_status.hung(place, max(now - since, call.age), is_first=is_first)])

    def _check(self) -> Reading:
        """Collect; if NVML is no longer initialised, initialise it and try once more."""
        try:
            try:
                reading = self._collect()
            except pynvml.NVMLError as error:
                if error.value not in NO_SESSION or not self._driver.is_open:
                    raise
                self._driver.close()
                reading = self._collect()
        except pynvml.NVMLError as error:
            mismatch = error.value == pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH
            self._driver.close(forget_library=mismatch)
            reading = self._without_nvml(error)
        return reading

    def _collect(self) -> Reading:
        """Return the reading of all cards.

        Raises:
            NVMLError: NVML as a whole fails.
        """
        self._driver.ready()
        seen = self._collect_cards()
        outage = driver_status.outage_of(seen, self._access)
        if outage is not None:
            seen = [one.without_blame(outage) for one in seen]
        elif is_container(self._root):
            seen = [one.in_container() for one in seen]
        findings = self._judge(seen, outage)
        answering = sum(one.error is None for one in seen)
        samples = [presence.devices(answering), *chain.from_iterable(one.reading.samples for one in seen)]
        return Reading(findings, samples, self._facts(seen), summary=self._summary(findings, answering))

    def _collect_cards(self) -> list[CardReading]:
        """Return the reading of each card that NVML counts and that is not ignored, by index.

        Raises:
            NVMLError: NVML as a whole fails.
        """
        cards = [card for card in self._driver.cards if not self._ignores(card.bus_id, card.uuid)]
        for card in cards:
            self._history.of(card)
        seen = [self._collectors.collect(card) for card in cards]
        for one in seen:
            if one.error is None:
                self._tenants.note(one.card, one.reading.facts.get("models", ()))
        seen += [
            self._collectors.collect_unidentified(index, error, cards)
            for index, error in self._driver.unidentified.items()
        ]
        return sorted(seen, key=lambda one: one.card.index)

    def _access(self) -> Access:
        """Return the present access to the driver, on the host whose sysfs this reads."""
        return access(self._root)

    def _judge(self, seen: Sequence[CardReading], outage: Finding | None) -> list[Finding]:
        """Return the findings of the cards and of missing cards."""
        lost = {one.card.index for one in seen if one.is_lost}
        unasked = {one.card.index for one in seen if one.error is not None} - lost
        self._driver.note_loss(lost=bool(lost) or outage is not None)
        listed = [one.card for one in seen]
        gone = self._history.others({card.uuid for card in listed})
        gone = {uuid: card for uuid, card in gone.items() if not self._ignores(card.bus_id, uuid)}
        on_bus = [bus_id for bus_id in self._driver.on_bus if not self._ignores(bus_id, "")]
        findings = [outage or driver_status.present(self._driver.versions)]
        findings += chain.from_iterable(one.reading.findings for one in seen)
        findings += self._collectors.open_xids(gone, listed)
        findings += presence.judge(
            self.options, listed, lost, gone, on_bus, unasked=unasked, in_container=is_container(self._root)
        )
        findings += self._watching()
        uuids = {**presence.subjects_of(gone, listed), **{card.subject: card.uuid for card in listed}}
        return self._tenants.name_models(findings, uuids)

    def _watching(self) -> list[Finding]:
        """Return the finding on the wait for XIDs; nothing if no card reports XIDs."""
        watcher = self._driver.watcher
        if watcher is None or not watcher.cards:
            return []
        if watcher.problem is not None:
            summary = f"XIDs are missed at present: {watcher.problem}"
            return [Finding("xid_watch", Status.DEGRADED, summary, advice=Advice.WATCH)]
        summary = f"the XIDs of {format_count(len(watcher.cards), 'GPU')} are waited for"
        return [Finding("xid_watch", Status.HEALTHY, summary)]

    def _without_nvml(self, error: pynvml.NVMLError) -> Reading:
        """Return the reading without NVML: no card answers, and recorded findings stay."""
        on_bus = {bus: driver for bus, driver in self._driver.on_bus.items() if not self._ignores(bus, "")}
        findings = [driver_status.absent(error, self.options, on_bus, self._access())]
        if self.options.expected_count != 0:
            findings += self._collectors.open_xids(self._history.others(set()), ())
        return Reading(findings, [presence.devices(0)])

    def _save_history(self, reading: Reading) -> Reading:
        """Write the history and return *reading*, with a finding if it cannot be written."""
        try:
            self._history.save()
        except OSError as error:
            cause = (
                f"cannot write {self._history.file}: {error.strerror}; a restart forgets the XIDs that came"
            )
            finding = Finding("past", Status.DEGRADED, cause, advice=Advice.FREE_RESOURCES)
            return Reading([*reading.findings, finding], reading.samples, reading.facts)
        return reading

    def _facts(self, seen: Iterable[CardReading]) -> dict[str, Any]:
        """Return the versions, and a short line for each card."""
        versions = self._driver.versions
        reported = {"driver": versions.driver, "nvml": versions.nvml, "cuda": versions.cuda}
        watcher = self._driver.watcher
        unwatched = [] if watcher is None else [card.index for card in watcher.unwatched]
        facts: dict[str, Any] = {key: value for key, value in reported.items() if value}
        if unwatched:
            facts["xids_not_told_by"] = unwatched
        return {**facts, "gpus": [_summary_of(one) for one in seen]}

    def _summary(self, findings: Iterable[Finding], answering: int) -> str:
        """Return the summary if all is healthy; "" leaves it to the findings."""
        if any(finding.status is not Status.HEALTHY for finding in findings):
            return ""
        return f"{format_count(answering, 'GPU')}, all healthy"

    def _ignores(self, bus_id: str, uuid: str) -> bool:
        """Return true if the operator excluded the card."""
        patterns = self.options.ignored_cards
        return any(fnmatchcase(name, pattern) for pattern in patterns for name in (bus_id, uuid) if name)

    @override
    def reload(self, *, dry_run: bool, force: bool) -> str:
        """Forget the known cards and their XIDs; the next check initialises NVML again.

        Raises:
            ReloadRefused: the history cannot be written, so a restart would bring it back.
        """
        xids = format_count(self._history.open_xids(), "XID")
        forgotten = f"{xids} that wait for a reset, and the known GPUs"
        if dry_run:
            return f"would forget {forgotten}"
        self._history.forget()
        try:
            self._history.save()
        except OSError as error:
            fix = "make the state folder writable"
            raise ReloadRefused(f"cannot write {self._history.file}: {error.strerror}; {fix}") from error
        self._driver.close()
        return f"forgot {forgotten}; the next check initialises NVML again"

    def close(self) -> None:
        """Stop waiting for XIDs; the end of the process shuts NVML down."""
        if self._driver.watcher is not None:
            self._driver.watcher.stopping.set()


def _summary_of(seen: CardReading) -> dict[str, Any]:
    """Return a card's line in the facts."""
    card = seen.card
    who = {"index": card.index, "uuid": card.uuid, "name": card.name, "bus_id": card.bus_id}
    return {**who, "status": str(seen.reading.status), **seen.reading.facts}
