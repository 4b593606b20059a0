"""The power of a card and its limit; a busy card at its limit is normal, so nothing is judged."""

import pynvml

from mlopsd.probe import Metric, Reading
from mlopsd_probes.gpu.card import LABELS, Card
from mlopsd_probes.gpu.collector import CardCollector
from mlopsd_probes.gpu.nvml import ask, number

DRAW = Metric("power_watts", "Power that the card draws.", unit="watts", labels=LABELS)
LIMIT = Metric("power_limit_watts", "Enforced power limit of the card.", unit="watts", labels=LABELS)
ENERGY = Metric(
    "energy_joules_total",
    "Energy used since the driver loaded.",
    kind="counter",
    unit="joules",
    labels=LABELS,
)
MOST = 10_000_000  # milliwatts; no card draws more


class Power(CardCollector):
    """``nvmlDeviceGetPowerUsage``, ``…EnforcedPowerLimit`` (mW), ``…TotalEnergyConsumption`` (mJ).

    A decrease of the energy means a reset, but only in persistence mode. Without it the card is initialised
    again whenever its last user leaves.
    """

    name = "power"
    metrics = (DRAW, LIMIT, ENERGY)

    def collect(self, card: Card) -> Reading:
        """Report the three numbers; record the energy while an XID waits for a reset."""
        draw = number(ask(pynvml.nvmlDeviceGetPowerUsage, card.handle), most=MOST)
        limit = number(ask(pynvml.nvmlDeviceGetEnforcedPowerLimit, card.handle), 1, MOST)
        energy = number(ask(pynvml.nvmlDeviceGetTotalEnergyConsumption, card.handle))
        if energy is not None:
            self._remember(card, energy)
        reported = ((DRAW, draw), (LIMIT, limit), (ENERGY, energy))
        return Reading(
            samples=[
                sample
                for metric, milli in reported
                for sample in card.samples(metric, None if milli is None else milli / 1000)
            ]
        )

    def _remember(self, card: Card, energy: int) -> None:
        """Record *energy*; a decrease means a reset."""
        with self.history.lock:
            known = self.history.of(card)
            if known.energy is not None and energy < known.energy and _is_persistent(card):
                self.history.card_reset(card)
            waits = any(happened.is_open for happened in known.xids.values())
            known.energy = energy if waits else None


def _is_persistent(card: Card) -> bool:
    """Return true if the driver keeps an unused card initialised (``nvmlDeviceGetPersistenceMode``)."""
    return ask(pynvml.nvmlDeviceGetPersistenceMode, card.handle) == 1
