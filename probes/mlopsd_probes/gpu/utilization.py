"""The utilization of a card and of its memory; to be busy and full is its purpose, so nothing is judged."""

from typing import Any

import pynvml

from mlopsd.probe import Metric, Reading
from mlopsd_probes.gpu.card import LABELS, Card
from mlopsd_probes.gpu.collector import CardCollector
from mlopsd_probes.gpu.nvml import ask, memory_of, number

UTILIZATION = Metric(
    "utilization_ratio",
    "Share of NVML's last sample period in which the engine was busy.",
    unit="ratio",
    labels=(*LABELS, "engine"),
)
PERFORMANCE_STATE = Metric("performance_state", "P-state, from 0 (fastest) to 15 (slowest).", labels=LABELS)
PERCENT = 100
SLOWEST = 15  # P-state; NVML says 32 for one that it does not know
TOTAL = Metric("memory_total_bytes", "Memory of the card.", unit="bytes", labels=LABELS)
USED = Metric(
    "memory_used_bytes",
    "Memory that processes hold, without the driver's reserve.",
    unit="bytes",
    labels=LABELS,
)
FREE = Metric("memory_free_bytes", "Memory that processes can have.", unit="bytes", labels=LABELS)


class Utilization(CardCollector):
    """``nvmlDeviceGet{UtilizationRates,EncoderUtilization,DecoderUtilization,PerformanceState}``."""

    name = "utilization"
    metrics = (UTILIZATION, PERFORMANCE_STATE)

    def collect(self, card: Card) -> Reading:
        """Report each engine that there is; a card that is split by MIG has none of its own."""
        busy = _busy_percent(card.handle)
        ratios = {engine: None if share is None else share / PERCENT for engine, share in busy.items()}
        state = number(ask(pynvml.nvmlDeviceGetPerformanceState, card.handle), most=SLOWEST)
        return Reading(
            samples=[*card.samples_of(UTILIZATION, ratios), *card.samples(PERFORMANCE_STATE, state)]
        )


def _busy_percent(handle: Any) -> dict[str, int | None]:
    """Return percent by engine; more than 100, as NVML sometimes says, is none."""
    rates = ask(pynvml.nvmlDeviceGetUtilizationRates, handle)
    coding = (pynvml.nvmlDeviceGetEncoderUtilization, pynvml.nvmlDeviceGetDecoderUtilization)
    encoder, decoder = (ask(call, handle) for call in coding)
    told = {
        "compute": None if rates is None else rates.gpu,
        "memory": None if rates is None else rates.memory,
        "encoder": None if encoder is None else encoder[0],
        "decoder": None if decoder is None else decoder[0],
    }
    return {engine: number(busy, most=PERCENT) for engine, busy in told.items()}


class CardMemory(CardCollector):
    """``nvmlDeviceGetMemoryInfo_v2``, else ``nvmlDeviceGetMemoryInfo``, whose used includes the reserve."""

    name = "memory"
    metrics = (TOTAL, USED, FREE)

    def collect(self, card: Card) -> Reading:
        """Report three numbers, and the card's memory as a fact."""
        told = memory_of(card.handle)
        if told is None:
            return Reading()
        total, used, free = (number(value) for value in (told.total, told.used, told.free))
        samples = card.samples(TOTAL, total) + card.samples(USED, used) + card.samples(FREE, free)
        return Reading(samples=samples, facts={} if total is None else {"memory_total_bytes": total})
