"""One GPU, and who it is."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pynvml

from mlopsd.probe import Metric, Number, Sample
from mlopsd_probes.gpu.nvml import ask, text

LABELS = ("gpu", "uuid")  # of every number of a card


@dataclass(frozen=True)
class Card:
    """A GPU as NVML lists it.

    Attributes:
        index: NVML's, which is nvidia-smi's, and in most cases CUDA's.
        uuid: the same in every host and slot.
        name: the product's.
        bus_id: as sysfs writes it, ``0000:1b:00.0``.
        handle: NVML's; good until NVML is shut down.
    """

    index: int
    uuid: str
    name: str
    bus_id: str
    handle: Any = None

    @cached_property
    def subject(self) -> str:
        """What findings call it."""
        return f"gpu {self.index}"

    @cached_property
    def title(self) -> str:
        """What a sentence calls it: with all that tells it from its neighbours."""
        return f"gpu {self.index} ({self.name}, {self.bus_id})"

    @cached_property
    def labels(self) -> tuple[tuple[str, str], ...]:
        """The labels of each of its numbers, with their values."""
        return ("gpu", str(self.index)), ("uuid", self.uuid)

    def samples(self, metric: Metric, value: Number | None, **labels: object) -> list[Sample]:
        """*value* of this card under *metric*; nothing where there is none.

        Other *labels* in the order in which *metric* declares them. Eight cards with NVLinks have more than
        a thousand numbers, and `Metric.sample`, which looks at each, would take half of a check's time.
        """
        if value is None:
            return []
        others = [(name, str(told)) for name, told in labels.items()]
        return [Sample(metric.name, float(value), (*self.labels, *others))]


def card_of(handle: Any, index: int) -> Card:
    """Who *handle* is (``nvmlDeviceGetUUID``, ``…Name``, ``…PciInfo_v3``).

    Raises:
        NVMLError: it does not say.
    """
    pci = ask(pynvml.nvmlDeviceGetPciInfo_v3, handle)
    bus_id = "" if pci is None else f"{pci.domain:04x}:{pci.bus:02x}:{pci.device:02x}.0"
    uuid = text(ask(pynvml.nvmlDeviceGetUUID, handle)) or bus_id
    return Card(index, uuid, text(ask(pynvml.nvmlDeviceGetName, handle)) or "GPU", bus_id, handle)
