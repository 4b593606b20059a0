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
        index: NVML's index; nvidia-smi's is the same, and usually CUDA's.
        uuid: the same in every host and slot.
        name: the product name.
        bus_id: the PCI address as in sysfs, ``0000:1b:00.0``.
        handle: NVML's handle; valid until NVML is shut down.
        driver: the version of its driver.
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
        """The name of the card in a sentence, with everything that identifies it."""
        known = ", ".join(filter(None, (self.name, self.bus_id)))
        return f"gpu {self.index} ({known})"

    @cached_property
    def _sampled(self) -> dict[tuple[object, ...], Sample]:
        """The last sample of each metric and its other labels."""
        return {}

    @cached_property
    def _rows(self) -> dict[tuple[str, ...], tuple[Mapping[Any, Number | None], tuple[Sample, ...]]]:
        """The last values and samples of `samples_of`, by metric and further labels."""
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
        """Return *value* as a sample of *metric*; return nothing for None.

        *others* are the values of the labels after the card's. An unchanged value returns the previous
        sample: eight cards with NVLinks have over a thousand numbers, and few change between two checks.
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
        """Return a sample of *metric* for each of *values*, by the first label after the card's.

        *others* are the values of the remaining labels. Unchanged values return the previous samples.
        """
        key = (metric.name, *others)
        before = self._rows.get(key)
        if before is None or before[0] != values:
            each = (self.samples(metric, value, of, *others) for of, value in values.items())
            before = self._rows[key] = values, tuple(chain.from_iterable(each))
        return before[1]

    def once(self, call: Callable[..., T], *arguments: Any, lacking: frozenset[int] = LACKING) -> T | None:
        """Return `ask` of a value that is constant while NVML is initialised; ask again if it is lacking.

        Raises:
            NVMLError: the call failed for another reason than a lack.
        """
        answer: T | None = self._known.get((call, *arguments))
        if answer is None:
            answer = self._known[call, *arguments] = ask(call, self.handle, *arguments, lacking=lacking)
        return answer


def card_of(handle: Any, index: int, driver: str) -> Card:
    """Identify *handle* (``nvmlDeviceGetUUID``, ``…Name``, ``…PciInfo_v3``).

    Raises:
        NVMLError: a call failed.
    """
    pci = ask(pynvml.nvmlDeviceGetPciInfo_v3, handle)
    bus_id = "" if pci is None else f"{pci.domain:04x}:{pci.bus:02x}:{pci.device:02x}.0"
    uuid = text(ask(pynvml.nvmlDeviceGetUUID, handle)) or bus_id
    return Card(index, uuid, text(ask(pynvml.nvmlDeviceGetName, handle)) or "GPU", bus_id, handle, driver)
