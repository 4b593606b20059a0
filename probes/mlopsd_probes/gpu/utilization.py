"""The utilization of a card; a busy card is normal, so nothing is judged."""

from typing import Any

import pynvml

from mlopsd.probe import Metric, Reading
from mlopsd_probes.gpu.card import LABELS, Card
from mlopsd_probes.gpu.collector import CardCollector
from mlopsd_probes.gpu.nvml import ask, number

UTILIZATION = Metric(
    "utilization_ratio",
    "Share of NVML's last sample period in which the engine was busy.",
    unit="ratio",
    labels=(*LABELS, "engine"),
)
PERFORMANCE_STATE = Metric("performance_state", "P-state, from 0 (fastest) to 15 (slowest).", labels=LABELS)
PERCENT = 100
SLOWEST = 15  # P-state; NVML reports 32 for an unknown one


class Utilization(CardCollector):
    """``nvmlDeviceGet{UtilizationRates,EncoderUtilization,DecoderUtilization,PerformanceState}``."""

    name = "utilization"
    metrics = (UTILIZATION, PERFORMANCE_STATE)

    def collect(self, card: Card) -> Reading:
        """Report each engine; a card in MIG mode has none of its own."""
        busy = _busy_percent(card.handle)
        ratios = {engine: None if share is None else share / PERCENT for engine, share in busy.items()}
        state = number(ask(pynvml.nvmlDeviceGetPerformanceState, card.handle), most=SLOWEST)
        return Reading(
            samples=[*card.samples_of(UTILIZATION, ratios), *card.samples(PERFORMANCE_STATE, state)]
        )


def _busy_percent(handle: Any) -> dict[str, int | None]:
    """Return percent by engine; None for more than 100, which NVML sometimes reports."""
    rates = ask(pynvml.nvmlDeviceGetUtilizationRates, handle)
    coding = (pynvml.nvmlDeviceGetEncoderUtilization, pynvml.nvmlDeviceGetDecoderUtilization)
    encoder, decoder = (ask(call, handle) for call in coding)
    answer = {
        "compute": None if rates is None else rates.gpu,
        "memory": None if rates is None else rates.memory,
        "encoder": None if encoder is None else encoder[0],
        "decoder": None if decoder is None else decoder[0],
    }
    return {engine: number(busy, most=PERCENT) for engine, busy in answer.items()}
