"""A card's clocks; what holds them down is the look at throttling."""

import pynvml

from mlopsd.probe import Metric
from mlopsd_probes.gpu.card import LABELS, Card
from mlopsd_probes.gpu.look import Look, Looked
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


class Clocks(Look):
    """``nvmlDeviceGetClockInfo`` and ``nvmlDeviceGetMaxClockInfo``, MHz."""

    name = "clocks"
    metrics = (CLOCK, CLOCK_LIMIT)

    def look(self, card: Card) -> Looked:
        """Each clock that there is."""
        samples = []
        for name, clock in CLOCKS.items():
            for metric, call in (
                (CLOCK, pynvml.nvmlDeviceGetClockInfo),
                (CLOCK_LIMIT, pynvml.nvmlDeviceGetMaxClockInfo),
            ):
                mega = number(ask(call, card.handle, clock, lacking=UNKNOWN_ARGUMENT), most=MOST)
                samples += card.samples(metric, None if mega is None else mega * MEGA, clock=name)
        return Looked(samples=samples)
