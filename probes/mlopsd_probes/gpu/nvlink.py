"""A card's NVLinks to its neighbours and switches, where it has any."""

from ctypes import c_uint, c_ulonglong
from typing import Any

import pynvml

from mlopsd.probe import Advice, Finding, Metric, Status
from mlopsd_probes.gpu.card import LABELS, Card
from mlopsd_probes.gpu.look import Look, Looked
from mlopsd_probes.gpu.nvml import UNKNOWN_ARGUMENT, ask, each, function, number

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

    def look(self, card: Card) -> Looked:
        """Each link, and whether one that was up is down."""
        states = link_states(card.handle)
        if not states:
            return Looked()
        up = [link for link, state in states.items() if state]
        ups = card.samples_of(UP, {(link,): state for link, state in states.items()})
        findings = [self.judge(card, up)] if self.is_judged(card, up) else []
        return Looked(findings, [*ups, *card.samples_of(ERRORS, link_errors(card.handle, up))])

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
    call = ask(function, "nvmlDeviceGetNvLinkState")
    rows = ((handle, link) for link in range(pynvml.NVML_NVLINK_MAX_LINKS))
    states: dict[int, int] = {}
    for link, state in enumerate(each(call, c_uint, rows, UNKNOWN_ARGUMENT) if call else ()):
        if state is not None:
            states[link] = int(bool(state))
        elif not states:
            break  # a card without links says so at the first
    return states


def link_errors(handle: Any, links: list[int]) -> dict[tuple[object, ...], int | None]:
    """The counters of *links*, of the kinds that they count, by link and kind."""
    return {
        (link, kind): number(count)
        for kind, counter in KINDS.items()
        for link, count in zip(links, error_counts(handle, links, counter), strict=False)
    }


def error_counts(handle: Any, links: list[int], counter: int) -> list[int]:
    """One kind's count of each of *links*; nothing if one of them does not count that kind.

    Raises:
        NVMLError: it counts, and cannot be read.
    """
    call = ask(function, "nvmlDeviceGetNvLinkErrorCounter")
    rows = ((handle, link, counter) for link in links)
    counts: list[int] = []
    for count in each(call, c_ulonglong, rows, UNKNOWN_ARGUMENT) if call else ():
        if count is None:
            return []
        counts.append(count)
    return counts
