"""A card's NVLinks to its neighbours and switches, where it has any."""

from typing import Any

import pynvml

from mlopsd.probe import Advice, Finding, Metric, Reading, Sample, Status
from mlopsd_probes.gpu.card import LABELS, Card
from mlopsd_probes.gpu.look import Look
from mlopsd_probes.gpu.nvml import UNKNOWN_ARGUMENT, ask, number

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


class NvLink(Look):
    """``nvmlDeviceGetNvLinkState`` and ``nvmlDeviceGetNvLinkErrorCounter`` of every link.

    A card has links that nothing is plugged into, so a link is missed only if it was up since boot.
    """

    name = "nvlink"
    findings = ("nvlink",)
    metrics = (UP, ERRORS)

    def look(self, card: Card) -> Reading:
        """Each link, and whether one that was up is down."""
        states = link_states(card.handle)
        if not states:
            return Reading()
        up = [link for link, state in states.items() if state]
        samples = [s for link, state in states.items() for s in card.samples(UP, state, link=link)]
        samples += link_errors(card, up)
        return Reading([self.judge(card, up)] if self.is_judged(card, up) else [], samples)

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


def link_states(handle: Any) -> dict[int, int]:
    """1 or 0 by link, of the links that the card has."""
    states: dict[int, int] = {}
    for link in range(pynvml.NVML_NVLINK_MAX_LINKS):
        state = ask(pynvml.nvmlDeviceGetNvLinkState, handle, link, lacking=UNKNOWN_ARGUMENT)
        if state is None:
            if not states:
                break  # a card without links says so at the first
            continue
        states[link] = int(bool(state))
    return states


def link_errors(card: Card, links: list[int]) -> list[Sample]:
    """The counters of *links*, of the kinds that they count."""
    samples: list[Sample] = []
    for kind, counter in KINDS.items():
        counts = ask(error_counts, card.handle, links, counter, lacking=UNKNOWN_ARGUMENT)
        for link, count in zip(links, counts or (), strict=False):
            samples += card.samples(ERRORS, number(count), link=link, kind=kind)
    return samples


def error_counts(handle: Any, links: list[int], counter: int) -> list[int]:
    """One kind's count of each of *links*.

    Raises:
        NVMLError: one of them does not count that kind.
    """
    return [pynvml.nvmlDeviceGetNvLinkErrorCounter(handle, link, counter) for link in links]
