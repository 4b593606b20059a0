"""One GPU and its identity."""

from collections.abc import Callable, Iterable, Mapping
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
        """The subject of its findings."""
        return f"gpu {self.index}"

    @cached_property
    def title(self) -> str:
        """Its name in a sentence, with all that tells it from its neighbours."""
        known = ", ".join(filter(None, (self.name, self.bus_id)))
        return f"gpu {self.index} ({known})"

    @cached_property
    def _sampled(self) -> dict[tuple[object, ...], Sample]:
        """The last sample of each metric and its other labels."""
        return {}

    @cached_property
    def _rows(self) -> dict[tuple[str, ...], tuple[Mapping[Any, Number | None], tuple[Sample, ...]]]:
        """The last values and samples of each metric, and its further labels, in `samples_of`."""
        return {}

    @cached_property
    def _known(self) -> dict[tuple[object, ...], Any]:
        """The answers of `once`, by call and arguments."""
        return {}

    @cached_property
    def labels(self) -> tuple[tuple[str, str], ...]:
        """The labels of each of its numbers, with their values."""
        return ("gpu", str(self.index)), ("uuid", self.uuid)

    def samples(self, metric: Metric, value: Number | None, *others: object) -> list[Sample]:
        """Return *value* of this card under *metric*; nothing where there is none.

        *others* are the values of its labels after the card's. Eight cards with NVLinks have more than a
        thousand numbers, of which few move between two checks: the others are the samples of before.
        """
        if value is None:
            return []
        key = (metric.name, *others)
        sample = self._sampled.get(key)
        if sample is None or sample.value != value:
            labels = self._labels_of(metric, others) if sample is None else sample.labels
            sample = self._sampled[key] = Sample(metric.name, float(value), labels)
        return [sample]

    def _labels_of(self, metric: Metric, others: Iterable[object]) -> tuple[tuple[str, str], ...]:
        """Return the labels of *metric*, with their values."""
        names = metric.labels[len(LABELS) :]
        return *self.labels, *zip(names, map(str, others), strict=True)

    def samples_of(
        self, metric: Metric, values: Mapping[Any, Number | None], *others: str
    ) -> tuple[Sample, ...]:
        """Return each of *values* under *metric*, by the first label after the card's; *others* are the rest.

        Where nothing moved these are the very samples of before.
        """
        key = (metric.name, *others)
        before = self._rows.get(key)
        if before is None or before[0] != values:
            each = (self.samples(metric, value, of, *others) for of, value in values.items())
            before = self._rows[key] = values, tuple(chain.from_iterable(each))
        return before[1]

    def once(self, call: Callable[..., T], *arguments: Any, lacking: frozenset[int] = LACKING) -> T | None:
        """Return `ask` of what never changes while NVML is initialised; ask again for what is lacking.

        Raises:
            NVMLError: the card does not say, and not because it lacks it.
        """
        told: T | None = self._known.get((call, *arguments))
        if told is None:
            told = self._known[call, *arguments] = ask(call, self.handle, *arguments, lacking=lacking)
        return told


def card_of(handle: Any, index: int, driver: str) -> Card:
    """Identify *handle* (``nvmlDeviceGetUUID``, ``…Name``, ``…PciInfo_v3``).

    Raises:
        NVMLError: it does not say.
    """
    pci = ask(pynvml.nvmlDeviceGetPciInfo_v3, handle)
    bus_id = "" if pci is None else f"{pci.domain:04x}:{pci.bus:02x}:{pci.device:02x}.0"
    uuid = text(ask(pynvml.nvmlDeviceGetUUID, handle)) or bus_id
    return Card(index, uuid, text(ask(pynvml.nvmlDeviceGetName, handle)) or "GPU", bus_id, handle, driver)
