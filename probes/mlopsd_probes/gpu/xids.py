"""The XIDs of a card, counted, explained and judged."""

import time
from collections.abc import Callable, Mapping

from mlopsd.format import format_age
from mlopsd.probe import Advice, Finding, Metric, Reading, Sample, Status
from mlopsd_probes.gpu.card import LABELS, Card
from mlopsd_probes.gpu.collector import CardCollector
from mlopsd_probes.gpu.history import CardHistory, XidEvent
from mlopsd_probes.gpu.options import GpuOptions
from mlopsd_probes.gpu.xid_table import FALLEN_OFF, meaning

ERRORS = Metric(
    "xid_errors_total",
    "XIDs of the card since boot that the probe received.",
    kind="counter",
    labels=(*LABELS, "xid"),
)
LAST = Metric(
    "xid_last_timestamp_seconds",
    "Unix time of the last XID of this number.",
    unit="seconds",
    labels=(*LABELS, "xid"),
)


class Xids(CardCollector):
    """The recorded XIDs of a card; they need no call of NVML, so a lost card has them too."""

    name = "xid"
    findings = ("xid",)
    metrics = (ERRORS, LAST)

    def __init__(
        self, options: GpuOptions, history: CardHistory, clock: Callable[[], float] = time.time
    ) -> None:
        super().__init__(options, history)
        self._clock = clock

    def collect(self, card: Card) -> Reading:
        """Judge the card by its worst XID; report the counts of all."""
        happened = self.history.xids_of(card.uuid)
        return Reading([self._judge(card, happened)], _samples(card, happened))

    def fell_off(self, card: Card) -> bool:
        """Return true if *card* has an open XID 79."""
        happened = self.history.xids_of(card.uuid).get(FALLEN_OFF)
        return happened is not None and happened.is_open

    def _judge(self, card: Card, happened: Mapping[int, XidEvent]) -> Finding:
        """Judge the worst XID; among equals, the latest."""
        judged = [(self._status(xid, event), event.last, xid) for xid, event in happened.items()]
        status, last, xid = max(judged, default=(Status.HEALTHY, 0.0, 0))
        if status is Status.HEALTHY:
            return Finding("xid", status, f"{card.title} has no XID that counts", card.subject)
        event, ago = happened[xid], format_age(self._clock() - last)
        often = f"{event.count} times, last" if event.count > 1 else "once,"
        until = (
            "; it stays until a reset or reboot, so drain the host first"
            if status is Status.UNHEALTHY
            else ""
        )
        summary = f"{card.title} had XID {xid} ({meaning(xid).text}) {often} {ago} ago{until}"
        lasting = status is Status.UNHEALTHY
        advice = self._advice(status, xid)
        return Finding("xid", status, summary, card.subject, xid, advice=advice, lasting=lasting)

    def _status(self, xid: int, event: XidEvent) -> Status:
        """Return unhealthy until a reset, degraded for a while, or healthy if the card is not at fault."""
        if event.is_open and xid in self.options.xids_unhealthy:
            return Status.UNHEALTHY
        recent = abs(self._clock() - event.last) < self.options.xid_recent  # the clock may be set back
        if event.is_open and recent and xid in self.options.xids_degraded:
            return Status.DEGRADED
        return Status.HEALTHY

    def _advice(self, status: Status, xid: int) -> Advice:
        """Return the table's advice; ``watch`` for an unknown XID that is only degraded, and never else."""
        known = meaning(xid)
        if status is Status.DEGRADED:
            return Advice.WATCH if known is meaning(0) else known.advice
        return max(known.advice, Advice.RESTART_APP)


def _samples(card: Card, happened: Mapping[int, XidEvent]) -> tuple[Sample, ...]:
    """Return the count and the last time of each XID."""
    counts = card.samples_of(ERRORS, {xid: event.count for xid, event in happened.items()})
    return counts + card.samples_of(LAST, {xid: event.last for xid, event in happened.items()})
