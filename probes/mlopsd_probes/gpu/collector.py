"""The collector of one signal of a card."""

import pynvml

from mlopsd.probe import Advice, Reading, Status
from mlopsd_probes.collector import Collector
from mlopsd_probes.gpu.card import Card
from mlopsd_probes.gpu.history import CardHistory
from mlopsd_probes.gpu.options import GpuOptions


class CardCollector(Collector):
    """A collector of one signal of every card; each of its metrics has the labels ``gpu`` and ``uuid``."""

    def __init__(self, options: GpuOptions, history: CardHistory) -> None:
        self.options = options
        self.history = history

    def collect(self, card: Card) -> Reading:
        """Ask *card* once and return its reading, without values that the card lacks.

        Raises:
            NVMLError: NVML failed for another reason than a lack.
        """
        raise NotImplementedError

    def explain(self, card: Card, error: pynvml.NVMLError) -> Reading:
        """Return a finding on *error*: ``unknown`` if a judgement is missing, else ``degraded``."""
        status = Status.UNKNOWN if self.findings else Status.DEGRADED
        source = f"{self.name.replace('_', ' ')} of {card.title}"
        if error.value == pynvml.NVML_ERROR_NO_PERMISSION:
            cause, advice = f"{error}; check what the service may read", Advice.FIX_CONFIG
        else:
            cause = f"{error}; restart mlopsd; if that does not help, see dmesg for NVRM"
            advice = Advice.RESTART_APP
        return self.unreadable(source, cause, advice, status=status, subject=card.subject)
