"""One GPU, and who it is."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any, TypeVar

import pynvml

from mlopsd.probe import Metric, Number, Sample
from mlopsd_probes.gpu.nvml import LACKING, ask, text

T = TypeVar("T")
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
        driver: the version of the driver that has it.
    """

    index: int
    uuid: str
    name: str
    bus_id: str
    handle: Any = None
    driver: str = ""

    @cached_property
    def subject(self) -> str:
        """What findings call it."""
        return f"gpu {self.index}"

    @cached_property
    def title(self) -> str:
        """What a sentence calls it: with all that tells it from its neighbours."""
        return f"gpu {self.index} ({self.name}, {self.bus_id})"

    @cached_property
    def sampled(self) -> dict[tuple[object, ...], Sample]:
        """The last sample of each metric and its other labels."""
        return {}

    @cached_property
    def rows(self) -> dict[str, tuple[Mapping[tuple[object, ...], Number | None], Sequence[Sample]]]:
        """The last values and samples of each metric that `samples_of` was asked for."""
        return {}

    @cached_property
    def known(self) -> dict[tuple[object, ...], Any]:
        """What calls, by their arguments, answered once."""
        return {}

    @cached_property
    def labels(self) -> tuple[tuple[str, str], ...]:
        """The labels of each of its numbers, with their values."""
        return ("gpu", str(self.index)), ("uuid", self.uuid)

    def samples(self, metric: Metric, value: Number | None, **labels: object) -> list[Sample]:
        """*value* of this card under *metric*; nothing where there is none.

        Other *labels* in the order in which *metric* declares them. Eight cards with NVLinks have more than
        a thousand numbers, of which few move between two checks: the others are the samples of before.
        """
        if value is None:
            return []
        key = (metric.name, *labels.values())
        sample = self.sampled.get(key)
        if sample is None or sample.value != value:
            others = [(name, str(told)) for name, told in labels.items()]
            sample = self.sampled[key] = Sample(metric.name, float(value), (*self.labels, *others))
        return [sample]

    def samples_of(
        self, metric: Metric, values: Mapping[tuple[object, ...], Number | None]
    ) -> Sequence[Sample]:
        """Each of *values* under *metric*, by its other labels' values in the order of their declaration."""
        before = self.rows.get(metric.name)
        if before is None or before[0] != values:
            names = metric.labels[len(LABELS) :]
            each = (
                self.samples(metric, value, **dict(zip(names, of, strict=True)))
                for of, value in values.items()
            )
            before = self.rows[metric.name] = values, list(chain.from_iterable(each))
        return before[1]

    def once(self, call: Callable[..., T], *arguments: Any, lacking: frozenset[int] = LACKING) -> T | None:
        """`ask` of what stays as it is while NVML is initialised; what is lacking is asked for again.

        Raises:
            NVMLError: the card does not say, and not because it lacks it.
        """
        told: T | None = self.known.get((call, *arguments))
        if told is None:
            told = self.known[call, *arguments] = ask(call, self.handle, *arguments, lacking=lacking)
        return told


def card_of(handle: Any, index: int, driver: str) -> Card:
    """Who *handle* is (``nvmlDeviceGetUUID``, ``…Name``, ``…PciInfo_v3``).

    Raises:
        NVMLError: it does not say.
    """
    pci = ask(pynvml.nvmlDeviceGetPciInfo_v3, handle)
    bus_id = "" if pci is None else f"{pci.domain:04x}:{pci.bus:02x}:{pci.device:02x}.0"
    uuid = text(ask(pynvml.nvmlDeviceGetUUID, handle)) or bus_id
    return Card(index, uuid, text(ask(pynvml.nvmlDeviceGetName, handle)) or "GPU", bus_id, handle, driver)
