"""Who uses a card, if the operator wants it listed."""

from typing import Any

import pynvml

from mlopsd.probe import Metric, Reading
from mlopsd_probes.gpu.card import LABELS, Card
from mlopsd_probes.gpu.look import Look
from mlopsd_probes.gpu.nvml import ask, number

PROCESSES = Metric("processes", "Processes that use the card to compute.", labels=LABELS)


class Processes(Look):
    """``nvmlDeviceGetComputeRunningProcesses_v3``; off unless ``processes`` is set.

    The facts have the process ids as the host counts them, which is how the core can tell whose they are:
    this probe, in its own process, knows no model.
    """

    name = "processes"
    metrics = (PROCESSES,)

    def look(self, card: Card) -> Reading:
        """The count, and the largest as facts."""
        if not self.options.processes:
            return Reading()
        found = ask(pynvml.nvmlDeviceGetComputeRunningProcesses_v3, card.handle)
        if found is None:
            return Reading()
        listed = sorted((told(process) for process in found), key=lambda one: -one.get("memory_bytes", 0))
        facts = {"processes": listed[: self.options.processes_most]}
        return Reading(samples=card.samples(PROCESSES, len(listed)), facts=facts)


def told(process: Any) -> dict[str, int]:
    """Its pid, and its memory in bytes where NVML tells."""
    memory = number(process.usedGpuMemory)
    return {"pid": process.pid} if memory is None else {"pid": process.pid, "memory_bytes": memory}
