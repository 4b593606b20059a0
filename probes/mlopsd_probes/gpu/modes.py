"""The modes of a card; the operator chooses them, so nothing is judged."""

from collections.abc import Callable
from typing import Any

import pynvml

from mlopsd.probe import Metric, Reading
from mlopsd_probes.gpu.card import LABELS, Card
from mlopsd_probes.gpu.collector import CardCollector
from mlopsd_probes.gpu.nvml import ask, number, text

INFO = Metric(
    "info", "1; the labels identify the card.", labels=(*LABELS, "name", "bus_id", "driver", "vbios")
)
PERSISTENCE = Metric(
    "persistence_mode", "1 if the driver keeps the card initialised while no process uses it.", labels=LABELS
)
COMPUTE_MODES = {0: "default", 1: "exclusive_thread", 2: "prohibited", 3: "exclusive_process"}


class Modes(CardCollector):
    """``nvmlDeviceGet{PersistenceMode,ComputeMode,CurrentEccMode,VbiosVersion,Serial}``."""

    name = "modes"
    metrics = (INFO, PERSISTENCE)

    def collect(self, card: Card) -> Reading:
        """Report the modes as facts, and two samples."""
        persistence = number(ask(pynvml.nvmlDeviceGetPersistenceMode, card.handle), most=1)
        vbios = text(card.once(pynvml.nvmlDeviceGetVbiosVersion))
        facts = {
            "persistence_mode": None if persistence is None else bool(persistence),
            "compute_mode": _compute_mode(card.handle),
            "ecc_mode": _flag(pynvml.nvmlDeviceGetCurrentEccMode, card.handle),
            "vbios": vbios or None,
        }
        info = card.samples(INFO, 1, card.name, card.bus_id, card.driver, vbios)
        samples = info + card.samples(PERSISTENCE, persistence)
        return Reading(
            samples=samples, facts={key: value for key, value in facts.items() if value is not None}
        )


def _compute_mode(handle: Any) -> str | None:
    """Return the compute mode by nvidia-smi's name."""
    mode = ask(pynvml.nvmlDeviceGetComputeMode, handle)
    return None if mode is None else COMPUTE_MODES.get(mode, str(mode))


def _flag(call: Callable[[Any], int], handle: Any) -> bool | None:
    """Return true for on, false for off, None if the card has no such mode."""
    answer = number(ask(call, handle), most=1)
    return None if answer is None else bool(answer)
