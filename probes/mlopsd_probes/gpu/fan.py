"""A card's fan, where it has one; servers' cards have none."""

import pynvml

from mlopsd.probe import Metric, Reading
from mlopsd_probes.gpu.card import LABELS, Card
from mlopsd_probes.gpu.collector import CardCollector
from mlopsd_probes.gpu.nvml import ask, number

SPEED = Metric(
    "fan_speed_ratio", "Speed that the fan is set to, of its maximum.", unit="ratio", labels=LABELS
)
MOST = 200  # percent; NVML says that it may go above 100


class Fan(CardCollector):
    """``nvmlDeviceGetFanSpeed``, percent; intended, not measured."""

    name = "fan"
    metrics = (SPEED,)

    def collect(self, card: Card) -> Reading:
        """Report the speed."""
        speed = number(ask(pynvml.nvmlDeviceGetFanSpeed, card.handle), most=MOST)
        return Reading(samples=card.samples(SPEED, None if speed is None else speed / 100))
