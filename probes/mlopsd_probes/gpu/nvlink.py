"""A card's NVLinks to other cards and switches, and its membership in the switches' fabric."""

from collections.abc import Iterator, Sequence
from ctypes import byref, c_uint, c_ulonglong, sizeof
from itertools import repeat
from typing import Any

import pynvml

from mlopsd.probe import Advice, Finding, Metric, Reading, Sample, Status
from mlopsd_probes.gpu.card import LABELS, Card
from mlopsd_probes.gpu.collector import CardCollector
from mlopsd_probes.gpu.history import CardHistory
from mlopsd_probes.gpu.mig import is_split
from mlopsd_probes.gpu.nvml import UNKNOWN_ARGUMENT, ask, checked, function, number
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
MOST_LINKS: int = pynvml.NVML_NVLINK_MAX_LINKS
STATES = {
    pynvml.NVML_GPU_FABRIC_STATE_NOT_STARTED: "is not in its fabric; look at nvidia-fabricmanager",
    pynvml.NVML_GPU_FABRIC_STATE_IN_PROGRESS: "is still joining its fabric",
}
FABRIC_PROBLEMS = {
    "DEGRADED_BW": "less bandwidth",
    "ROUTE_RECOVERY": "routes being recovered",
    "ROUTE_UNHEALTHY": "an unhealthy route",
    "ACCESS_TIMEOUT_RECOVERY": "access timeouts being recovered",
}  # fields of the health mask, whose value 1 is true
STATE_BITS = 0xFF  # nvmlGpuFabricState_t is an unsigned char, but pynvml also reads its padding


FIX = "drain the host, and reset the cards at both ends"


class NvLink(CardCollector):
    """The state of every link, and the errors of active links.

    Some links of a card may not be connected, so a link is missed only if it was up since boot. In MIG mode
    the links are off.
    """

    name = "nvlink"
    findings = ("nvlink",)
    metrics = (UP, ERRORS)

    def __init__(self, options: GpuOptions, history: CardHistory) -> None:
        super().__init__(options, history)
        self._links = Links()

    def collect(self, card: Card) -> Reading:
        """Report each link; judge links that were up and are down."""
        states = self._links.states(card.handle)
        if not states or (0 in states.values() and is_split(card.handle)):
            return Reading()
        up = [link for link, state in states.items() if state]
        findings = [self._judge(card, up)] if self._is_judged(card, up) else []
        return Reading(findings, [*card.samples_of(UP, states), *self.errors(card, up)])

    def errors(self, card: Card, up: list[int]) -> Iterator[Sample]:
        """Yield the errors of each kind that the links *up* count."""
        for kind, counter in KINDS.items():
            yield from card.samples_of(ERRORS, self._links.errors(card.handle, up, counter), kind)

    def _is_judged(self, card: Card, up: list[int]) -> bool:
        """Record the links *up*; return true if links are expected."""
        with self.history.lock:
            known = self.history.of(card)
            known.nvlinks = sorted({*known.nvlinks, *up})
            return bool(known.nvlinks or self.options.expected_nvlinks)

    def _judge(self, card: Card, up: list[int]) -> Finding:
        """Judge the links against the configured number, else against the earlier number."""
        down = [link for link in self.history.of(card).nvlinks if link not in up]
        expected = self.options.expected_nvlinks
        missed = len(down) if expected is None else expected - len(up)
        most = len(up) + len(down) if expected is None else expected
        which = f" (down: {', '.join(map(str, down))})" if down else ""
        bad = missed > 0
        return Finding(
            "nvlink",
            Status.DEGRADED if bad else Status.HEALTHY,
            f"{card.title} has {len(up)} of {most} NVLinks up{f'{which}; {FIX}' if bad else ''}",
            card.subject,
            len(up),
            "links",
            most,
            Advice.RESET_GPU if bad else Advice.NONE,
        )


class Links:
    """``nvmlDeviceGetNvLinkState`` and ``nvmlDeviceGetNvLinkErrorCounter``.

    Eight cards have hundreds of these numbers, and pynvml's own functions take three times as long. So this
    calls the C functions directly, and allocates their output only once.
    """

    def __init__(self) -> None:
        self._states = (c_uint * MOST_LINKS)()
        self._counts = (c_ulonglong * MOST_LINKS)()
        self._state_places = [byref(self._states, at * sizeof(c_uint)) for at in range(MOST_LINKS)]
        self._count_places = [byref(self._counts, at * sizeof(c_ulonglong)) for at in range(MOST_LINKS)]

    def states(self, handle: Any) -> dict[int, int]:
        """Return 1 (up) or 0 by link, for the links of the card.

        Raises:
            NVMLError: an existing link cannot be read.
        """
        call = ask(function, "nvmlDeviceGetNvLinkState")
        found: dict[int, int] = {}
        if call is None:
            return found
        answers = map(call, repeat(handle), range(MOST_LINKS), self._state_places)
        for link, answer in enumerate(answers):
            if answer not in UNKNOWN_ARGUMENT:
                checked(answer)
                found[link] = int(bool(self._states[link]))
            elif not found:
                break  # a card without links fails at the first one
        return found

    def errors(self, handle: Any, links: Sequence[int], counter: int) -> dict[int, int | None]:
        """Return the count by link; return nothing if one of *links* lacks this *counter*.

        Raises:
            NVMLError: an existing counter cannot be read.
        """
        call = ask(function, "nvmlDeviceGetNvLinkErrorCounter")
        if call is None:
            return {}
        answers = map(call, repeat(handle), links, repeat(counter), self._count_places)
        error = next(filter(None, answers), pynvml.NVML_SUCCESS)  # lazy: no call after the first error
        if error in UNKNOWN_ARGUMENT:
            return {}
        checked(error)
        return dict(zip(links, map(number, self._counts[: len(links)]), strict=True))


class Fabric(CardCollector):
    """``nvmlDeviceGetGpuFabricInfoV``: state, status and health mask.

    A card whose fabric has not started is judged only if it has an active link to a switch.
    """

    name = "nvlink_fabric"
    findings = ("nvlink_fabric",)

    def __init__(self, options: GpuOptions, history: CardHistory) -> None:
        super().__init__(options, history)
        self._links = Links()

    def collect(self, card: Card) -> Reading:
        """Judge the card's membership, if there is a fabric."""
        info = pynvml.c_nvmlGpuFabricInfoV_t()
        answered = ask(pynvml.nvmlDeviceGetGpuFabricInfoV, card.handle, byref(info), lacking=UNKNOWN_ARGUMENT)
        state = info.state & STATE_BITS
        if answered is None or state == pynvml.NVML_GPU_FABRIC_STATE_NOT_SUPPORTED:
            return Reading()
        if state != pynvml.NVML_GPU_FABRIC_STATE_COMPLETED:
            needed = self._needs_fabric(card.handle)
            return Reading([_degraded(card, STATES.get(state, "is in an unknown state"))] if needed else [])
        if info.status:
            return Reading(
                [_degraded(card, f"could not join its NVLink fabric: {pynvml.NVMLError(info.status)}")]
            )
        if problems := _fabric_problems(info.healthMask):
            return Reading([_degraded(card, f"has a fabric with {' and '.join(problems)}")])
        summary = f"{card.title} is part of its NVLink fabric"
        return Reading([Finding("nvlink_fabric", Status.HEALTHY, summary, card.subject)])

    def _needs_fabric(self, handle: Any) -> bool:
        """Return true if an active link leads to a switch; a bridge between two cards needs no fabric."""
        up = (link for link, state in self._links.states(handle).items() if state)
        return any(_may_be_switch(handle, link) for link in up)


def _may_be_switch(handle: Any, link: int) -> bool:
    """Return true if the other end of *link* is an NVSwitch or unknown."""
    end = ask(pynvml.nvmlDeviceGetNvLinkRemoteDeviceType, handle, link, lacking=UNKNOWN_ARGUMENT)
    return end in (None, pynvml.NVML_NVLINK_DEVICE_TYPE_SWITCH, pynvml.NVML_NVLINK_DEVICE_TYPE_UNKNOWN)


def _degraded(card: Card, text: str) -> Finding:
    """Return a degraded finding."""
    return Finding(
        "nvlink_fabric", Status.DEGRADED, f"{card.title} {text}", card.subject, advice=Advice.RESET_GPU
    )


def _fabric_problems(mask: int) -> list[str]:
    """Return the problems whose fields in ``healthMask`` are true."""
    return [text for name, text in FABRIC_PROBLEMS.items() if _field(mask, name) == 1]


def _field(mask: int, name: str) -> int:
    shift: int = getattr(pynvml, f"NVML_GPU_FABRIC_HEALTH_MASK_SHIFT_{name}")
    width: int = getattr(pynvml, f"NVML_GPU_FABRIC_HEALTH_MASK_WIDTH_{name}")
    return mask >> shift & width
