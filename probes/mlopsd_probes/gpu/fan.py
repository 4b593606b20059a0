"""A card's fan, where it has one; servers' cards have none."""

import pynvml

from mlopsd.probe import Metric
from mlopsd_probes.gpu.card import LABELS, Card
from mlopsd_probes.gpu.look import Look, Looked
from mlopsd_probes.gpu.nvml import ask, number

SPEED = Metric(
    "fan_speed_ratio", "Speed that the fan is set to, of its maximum.", unit="ratio", labels=LABELS
)
MOST = 200  # percent; NVML says that it may go above 100


class Fan(Look):
    """``nvmlDeviceGetFanSpeed``, percent; intended, not measured."""

    name = "fan"
    metrics = (SPEED,)

    def look(self, card: Card) -> Looked:
        """Report."""
        speed = number(ask(pynvml.nvmlDeviceGetFanSpeed, card.handle), most=MOST)
        return Looked(samples=card.samples(SPEED, None if speed is None else speed / 100))
