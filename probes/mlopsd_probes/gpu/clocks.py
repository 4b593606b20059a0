"""The clocks of a card."""

from collections.abc import Callable
from typing import Any

import pynvml

from mlopsd.probe import Metric, Reading
from mlopsd_probes.gpu.card import LABELS, Card
from mlopsd_probes.gpu.collector import CardCollector
from mlopsd_probes.gpu.nvml import UNKNOWN_ARGUMENT, ask, number

CLOCK = Metric("clock_hertz", "Current frequency of the clock.", unit="hertz", labels=(*LABELS, "clock"))
CLOCK_LIMIT = Metric(
    "clock_limit_hertz", "Highest frequency of the clock.", unit="hertz", labels=(*LABELS, "clock")
)
CLOCKS = {
    "graphics": pynvml.NVML_CLOCK_GRAPHICS,
    "sm": pynvml.NVML_CLOCK_SM,
    "memory": pynvml.NVML_CLOCK_MEM,
    "video": pynvml.NVML_CLOCK_VIDEO,
}
MEGA = 1_000_000
MOST = 100_000  # MHz


class Clocks(CardCollector):
    """``nvmlDeviceGetClockInfo`` and ``nvmlDeviceGetMaxClockInfo``, MHz."""

    name = "clocks"
    metrics = (CLOCK, CLOCK_LIMIT)

    def collect(self, card: Card) -> Reading:
        """Report each clock that there is."""
        now = _hertz(pynvml.nvmlDeviceGetClockInfo, card.handle)
        highest = _hertz(pynvml.nvmlDeviceGetMaxClockInfo, card.handle)
        return Reading(samples=card.samples_of(CLOCK, now) + card.samples_of(CLOCK_LIMIT, highest))


def _hertz(call: Callable[[Any, int], int], handle: Any) -> dict[str, int | None]:
    """Return Hz by clock; *call* answers in MHz."""
    answer = {
        name: number(ask(call, handle, clock, lacking=UNKNOWN_ARGUMENT), most=MOST)
        for name, clock in CLOCKS.items()
    }
    return {name: None if mega is None else mega * MEGA for name, mega in answer.items()}
