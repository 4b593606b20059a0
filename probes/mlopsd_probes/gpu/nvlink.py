"""A card's NVLinks to its neighbours and switches, where it has any."""

from collections.abc import Iterator

import pynvml

from mlopsd.probe import Advice, Finding, Metric, Sample, Status
from mlopsd_probes.gpu.card import LABELS, Card
from mlopsd_probes.gpu.history import CardHistory
from mlopsd_probes.gpu.links import Links
from mlopsd_probes.gpu.look import CardCollector, CardResult
from mlopsd_probes.gpu.mig import is_split
from mlopsd_probes.gpu.options import GpuOptions

UP = Metric("nvlink_up", "1 if the link is active.", labels=(*LABELS, "link"))
ERRORS = Metric(
    "nvlink_errors_total",
    "Errors of the link since the driver loaded.",
    kind="counter",
    labels=(*LABELS, "link", "kind"),
)
KINDS = {
    "replay": pynvml.NVML_NVLINK_ERROR_DL_REPLAY,
    "recovery": pynvml.NVML_NVLINK_ERROR_DL_RECOVERY,
    "crc_flit": pynvml.NVML_NVLINK_ERROR_DL_CRC_FLIT,
    "crc_data": pynvml.NVML_NVLINK_ERROR_DL_CRC_DATA,
}


class NvLink(CardCollector):
    """The state of every link, and the errors of those that are up.

    A card has links that nothing is plugged into, so a link is missed only if it was up since boot.
    In MIG mode the links are off.
    """

    name = "nvlink"
    findings = ("nvlink",)
    metrics = (UP, ERRORS)

    def __init__(self, options: GpuOptions, past: CardHistory) -> None:
        super().__init__(options, past)
        self.links = Links()

    def look(self, card: Card) -> CardResult:
        """Each link, and whether one that was up is down."""
        states = self.links.states(card.handle)
        if not states or (0 in states.values() and is_split(card.handle)):
            return CardResult()
        up = [link for link, state in states.items() if state]
        findings = [self.judge(card, up)] if self.is_judged(card, up) else []
        return CardResult(findings, [*card.samples_of(UP, states), *self.errors(card, up)])

    def errors(self, card: Card, up: list[int]) -> Iterator[Sample]:
        """Of each kind, if the links that are *up* count it."""
        for kind, counter in KINDS.items():
            yield from card.samples_of(ERRORS, self.links.errors(card.handle, up, counter), kind)

    def is_judged(self, card: Card, up: list[int]) -> bool:
        """Whether links are expected; remembers those that are up."""
        with self.past.lock:
            past = self.past.of(card)
            past.nvlinks = sorted({*past.nvlinks, *up})
            return bool(past.nvlinks or self.options.expected_nvlinks)

    def judge(self, card: Card, up: list[int]) -> Finding:
        """Against the configured number, else by link."""
        down = [link for link in self.past.of(card).nvlinks if link not in up]
        expected = self.options.expected_nvlinks
        missed = len(down) if expected is None else expected - len(up)
        most = len(up) + len(down) if expected is None else expected
        which = f" (down: {', '.join(map(str, down))})" if down else ""
        bad = missed > 0
        return Finding(
            "nvlink",
            Status.DEGRADED if bad else Status.HEALTHY,
            f"{card.title} has {len(up)} of {most} NVLinks up{which if bad else ''}",
            card.subject,
            len(up),
            "links",
            most,
            Advice.RESET_GPU if bad else Advice.NONE,
        )
