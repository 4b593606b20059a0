"""The memory of a card; full memory is normal, so nothing is judged."""

from mlopsd.probe import Metric, Reading
from mlopsd_probes.gpu.card import LABELS, Card
from mlopsd_probes.gpu.collector import CardCollector
from mlopsd_probes.gpu.nvml import memory_of, number

TOTAL = Metric("memory_total_bytes", "Memory of the card.", unit="bytes", labels=LABELS)
USED = Metric(
    "memory_used_bytes",
    "Memory in use by processes, without the driver's reserve.",
    unit="bytes",
    labels=LABELS,
)
FREE = Metric("memory_free_bytes", "Memory free for processes.", unit="bytes", labels=LABELS)


class CardMemory(CardCollector):
    """``nvmlDeviceGetMemoryInfo_v2``, else ``nvmlDeviceGetMemoryInfo``, which counts the reserve as used."""

    name = "memory"
    metrics = (TOTAL, USED, FREE)

    def collect(self, card: Card) -> Reading:
        """Report three numbers, and the card's memory as facts."""
        answer = memory_of(card.handle)
        if answer is None:
            return Reading()
        total, used, free = (number(value) for value in (answer.total, answer.used, answer.free))
        samples = card.samples(TOTAL, total) + card.samples(USED, used) + card.samples(FREE, free)
        facts = {"memory_total_bytes": total, "memory_free_bytes": free}
        return Reading(
            samples=samples, facts={name: size for name, size in facts.items() if size is not None}
        )
