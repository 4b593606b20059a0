"""The membership of a card in the fabric of its NVSwitches."""

from ctypes import byref
from typing import Any

import pynvml

from mlopsd.probe import Advice, Finding, Reading, Status
from mlopsd_probes.gpu.card import Card
from mlopsd_probes.gpu.collector import CardCollector
from mlopsd_probes.gpu.history import CardHistory
from mlopsd_probes.gpu.nvlink import Links
from mlopsd_probes.gpu.nvml import UNKNOWN_ARGUMENT, ask
from mlopsd_probes.gpu.options import GpuOptions

STATES = {
    pynvml.NVML_GPU_FABRIC_STATE_NOT_STARTED: "is not in its fabric; look at nvidia-fabricmanager",
    pynvml.NVML_GPU_FABRIC_STATE_IN_PROGRESS: "is still joining its fabric",
}
TROUBLES = {
    "DEGRADED_BW": "less bandwidth",
    "ROUTE_RECOVERY": "routes being recovered",
    "ROUTE_UNHEALTHY": "an unhealthy route",
    "ACCESS_TIMEOUT_RECOVERY": "access timeouts being recovered",
}  # fields of the health mask, whose value 1 is true


STATE_BITS = 0xFF  # nvmlGpuFabricState_t is an unsigned char, and pynvml reads its padding too


class Fabric(CardCollector):
    """``nvmlDeviceGetGpuFabricInfoV``: state, status and health mask.

    A card whose fabric has not begun is judged only if it has an active link to a switch.
    """

    name = "nvlink_fabric"
    findings = ("nvlink_fabric",)

    def __init__(self, options: GpuOptions, history: CardHistory) -> None:
        super().__init__(options, history)
        self._links = Links()

    def collect(self, card: Card) -> Reading:
        """Judge, where there is a fabric."""
        told = pynvml.c_nvmlGpuFabricInfoV_t()
        answered = ask(pynvml.nvmlDeviceGetGpuFabricInfoV, card.handle, byref(told), lacking=UNKNOWN_ARGUMENT)
        state = told.state & STATE_BITS
        if answered is None or state == pynvml.NVML_GPU_FABRIC_STATE_NOT_SUPPORTED:
            return Reading()
        if state != pynvml.NVML_GPU_FABRIC_STATE_COMPLETED:
            needed = self._needs_fabric(card.handle)
            return Reading([_trouble(card, STATES.get(state, "is in an unknown state"))] if needed else [])
        if told.status:
            return Reading(
                [_trouble(card, f"could not join its NVLink fabric: {pynvml.NVMLError(told.status)}")]
            )
        if ills := _troubles(told.healthMask):
            return Reading([_trouble(card, f"has a fabric with {' and '.join(ills)}")])
        summary = f"{card.title} is part of its NVLink fabric"
        return Reading([Finding("nvlink_fabric", Status.HEALTHY, summary, card.subject)])

    def _needs_fabric(self, handle: Any) -> bool:
        """Return true if an active link leads to a switch; a bridge between two cards needs no fabric."""
        up = (link for link, state in self._links.states(handle).items() if state)
        return any(_may_be_switch(handle, link) for link in up)


def _may_be_switch(handle: Any, link: int) -> bool:
    """Return true if the other end of *link* is an NVSwitch, or not told."""
    end = ask(pynvml.nvmlDeviceGetNvLinkRemoteDeviceType, handle, link, lacking=UNKNOWN_ARGUMENT)
    return end in (None, pynvml.NVML_NVLINK_DEVICE_TYPE_SWITCH, pynvml.NVML_NVLINK_DEVICE_TYPE_UNKNOWN)


def _trouble(card: Card, words: str) -> Finding:
    """Return a degraded finding."""
    return Finding(
        "nvlink_fabric", Status.DEGRADED, f"{card.title} {words}", card.subject, advice=Advice.RESET_GPU
    )


def _troubles(mask: int) -> list[str]:
    """Return the troubles that ``healthMask`` says are true."""
    return [words for name, words in TROUBLES.items() if _field(mask, name) == 1]


def _field(mask: int, name: str) -> int:
    shift: int = getattr(pynvml, f"NVML_GPU_FABRIC_HEALTH_MASK_SHIFT_{name}")
    width: int = getattr(pynvml, f"NVML_GPU_FABRIC_HEALTH_MASK_WIDTH_{name}")
    return mask >> shift & width
