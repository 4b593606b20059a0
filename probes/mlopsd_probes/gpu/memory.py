"""The memory of a card; to be full is its purpose, so nothing is judged."""

from mlopsd.probe import Metric, Reading
from mlopsd_probes.gpu.card import LABELS, Card
from mlopsd_probes.gpu.collector import CardCollector
from mlopsd_probes.gpu.nvml import memory_of, number

TOTAL = Metric("memory_total_bytes", "Memory of the card.", unit="bytes", labels=LABELS)
USED = Metric(
    "memory_used_bytes",
    "Memory that processes hold, without the driver's reserve.",
    unit="bytes",
    labels=LABELS,
)
FREE = Metric("memory_free_bytes", "Memory that processes can have.", unit="bytes", labels=LABELS)


class CardMemory(CardCollector):
    """``nvmlDeviceGetMemoryInfo_v2``, else ``nvmlDeviceGetMemoryInfo``, whose used includes the reserve."""

    name = "memory"
    metrics = (TOTAL, USED, FREE)

    def collect(self, card: Card) -> Reading:
        """Report three numbers, and the card's memory as a fact."""
        told = memory_of(card.handle)
        if told is None:
            return Reading()
        total, used, free = (number(value) for value in (told.total, told.used, told.free))
        samples = card.samples(TOTAL, total) + card.samples(USED, used) + card.samples(FREE, free)
        return Reading(samples=samples, facts={} if total is None else {"memory_total_bytes": total})
