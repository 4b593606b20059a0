"""Memory errors that ECC saw."""

from itertools import chain
from typing import Any

import pynvml

from mlopsd.format import format_count
from mlopsd.probe import Advice, Finding, Metric, Reading, Status
from mlopsd_probes.gpu.card import LABELS, Card
from mlopsd_probes.gpu.collector import CardCollector
from mlopsd_probes.gpu.nvml import ask, number

ERRORS = Metric(
    "ecc_errors_total",
    "Errors in all memories: volatile since the driver loaded or the card was reset, aggregate in its life.",
    kind="counter",
    labels=(*LABELS, "kind", "scope"),
)
KINDS = {
    "corrected": pynvml.NVML_MEMORY_ERROR_TYPE_CORRECTED,
    "uncorrected": pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED,
}
SCOPES = {"volatile": pynvml.NVML_VOLATILE_ECC, "aggregate": pynvml.NVML_AGGREGATE_ECC}


class Ecc(CardCollector):
    """``nvmlDeviceGetTotalEccErrors``; nothing where ECC is off or there is none."""

    name = "ecc_uncorrected"
    findings = ("ecc_uncorrected",)
    metrics = (ERRORS,)

    def collect(self, card: Card) -> Reading:
        """Report four counters; judge the uncorrected errors since the first check."""
        counts = {scope: _error_counts(card.handle, scope_id) for scope, scope_id in SCOPES.items()}
        samples = chain.from_iterable(
            card.samples_of(ERRORS, by_kind, scope) for scope, by_kind in counts.items()
        )
        uncorrected = counts["volatile"]["uncorrected"]
        return Reading([] if uncorrected is None else [self._judge(card, uncorrected)], list(samples))

    def _judge(self, card: Card, uncorrected: int) -> Finding:
        """Judge the increase since the driver loaded; a counter that went back was reset."""
        with self.history.lock:
            known = self.history.of(card)
            if known.uncorrected is None or uncorrected < known.uncorrected:
                known.uncorrected = uncorrected
            more = uncorrected - known.uncorrected
        limit = self.options.ecc_uncorrected_unhealthy
        bad = more >= limit
        errors = format_count(more, "uncorrected ECC error")
        summary = f"{card.title} had {errors} since it was first looked at"
        return Finding(
            "ecc_uncorrected",
            Status.UNHEALTHY if bad else Status.HEALTHY,
            f"{summary}: results may be wrong; reset it" if bad else summary,
            card.subject,
            more,
            "errors",
            limit,
            Advice.RESET_GPU if bad else Advice.NONE,
            lasting=bad,
        )


def _error_counts(handle: Any, scope: int) -> dict[str, int | None]:
    """Return the counter of each kind in one scope."""
    return {
        kind: number(ask(pynvml.nvmlDeviceGetTotalEccErrors, handle, kind_id, scope))
        for kind, kind_id in KINDS.items()
    }
