"""The processes that use a card, if the operator wants them listed."""

from typing import Any

import pynvml

from mlopsd.probe import Metric, Reading
from mlopsd_probes.gpu.card import LABELS, Card
from mlopsd_probes.gpu.collector import CardCollector
from mlopsd_probes.gpu.nvml import NO_CARD, NO_SESSION, ask, number
from mlopsd_probes.gpu.tenants import models

PROCESSES = Metric("processes", "Processes that use the card to compute.", labels=LABELS)


class Processes(CardCollector):
    """``nvmlDeviceGetComputeRunningProcesses_v3``, with process ids as the host counts them.

    The models among them are always named; the list of all is off unless ``processes`` is set.
    """

    name = "processes"
    metrics = (PROCESSES,)

    def collect(self, card: Card) -> Reading:
        """Report the models, and if wanted the count and the largest, as facts.

        Raises:
            NVMLError: the list is wanted and NVML fails in a way that is no lack, or no call works.
        """
        try:
            found = ask(pynvml.nvmlDeviceGetComputeRunningProcesses_v3, card.handle)
        except pynvml.NVMLError as error:
            if self.options.processes or error.value in NO_SESSION | NO_CARD:
                raise
            found = None
        uris = models(process.pid for process in found or ())
        facts: dict[str, Any] = {"models": uris} if uris else {}
        if found is None or not self.options.processes:
            return Reading(facts=facts)
        listed = sorted(
            (_describe(process) for process in found), key=lambda one: -one.get("memory_bytes", 0)
        )
        facts["processes"] = listed[: self.options.processes_most]
        return Reading(samples=card.samples(PROCESSES, len(listed)), facts=facts)


def _describe(process: Any) -> dict[str, int]:
    """Return its pid, and its memory in bytes if NVML knows it."""
    memory = number(process.usedGpuMemory)
    return {"pid": process.pid} if memory is None else {"pid": process.pid, "memory_bytes": memory}
