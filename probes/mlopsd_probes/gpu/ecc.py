"""Memory errors that ECC detected, and the rows or pages that the card took out of use.

Cards before Ampere retire pages, later cards remap rows.
"""

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
ROWS = Metric(
    "remapped_rows",
    "Rows remapped for corrected and uncorrected errors; pending and failed are 1 or 0.",
    labels=(*LABELS, "kind"),
)
PAGES = Metric("retired_pages", "Pages retired for the cause; pending is 1 or 0.", labels=(*LABELS, "cause"))
CAUSES = {
    "single_bit": pynvml.NVML_PAGE_RETIREMENT_CAUSE_MULTIPLE_SINGLE_BIT_ECC_ERRORS,
    "double_bit": pynvml.NVML_PAGE_RETIREMENT_CAUSE_DOUBLE_BIT_ECC_ERROR,
}


class Ecc(CardCollector):
    """``nvmlDeviceGetTotalEccErrors``; empty if ECC is off or missing."""

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
        """Judge the increase since the driver loaded; a counter that decreased was reset."""
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
            f"{summary}: results may be wrong; drain the host, stop mlopsd and reset the card"
            if bad
            else summary,
            card.subject,
            more,
            "errors",
            limit,
            Advice.RESET_GPU if bad else Advice.NONE,
            lasting=bad,
        )


def _error_counts(handle: Any, scope: int) -> dict[str, int | None]:
    """Return the counters of one *scope* by kind."""
    return {
        kind: number(ask(pynvml.nvmlDeviceGetTotalEccErrors, handle, kind_id, scope))
        for kind, kind_id in KINDS.items()
    }


class RemappedRows(CardCollector):
    """``nvmlDeviceGetRemappedRows`` (Ampere and later)."""

    name = "remapped_rows"
    findings = ("remapped_rows",)
    metrics = (ROWS,)

    def collect(self, card: Card) -> Reading:
        """Judge the rows: a remapping may wait for a reset, or have failed."""
        answer = ask(pynvml.nvmlDeviceGetRemappedRows, card.handle)
        if answer is None:
            return Reading()
        corrected, uncorrected, pending, failed = answer
        rows = {"corrected": number(corrected), "uncorrected": number(uncorrected)}
        flags = {"pending": number(pending, most=1), "failed": number(failed, most=1)}
        numbers = {kind: count for kind, count in (rows | flags).items() if count is not None}
        findings = [_judge_rows(card, numbers)] if len(numbers) == len(answer) else []
        return Reading(findings, card.samples_of(ROWS, numbers))


class RetiredPages(CardCollector):
    """``nvmlDeviceGetRetiredPages`` and ``…RetiredPagesPendingStatus`` (before Ampere)."""

    name = "retired_pages"
    findings = ("retired_pages",)
    metrics = (PAGES,)

    def collect(self, card: Card) -> Reading:
        """Judge the number of pages, and a page that waits for a reset."""
        counts = {cause: _retired(card.handle, cause_id) for cause, cause_id in CAUSES.items()}
        numbers = {cause: count for cause, count in counts.items() if count is not None}
        if not numbers:
            return Reading()
        pending = number(ask(pynvml.nvmlDeviceGetRetiredPagesPendingStatus, card.handle), most=1)
        finding = self._judge(card, sum(numbers.values()), pending=bool(pending))
        return Reading([finding], card.samples_of(PAGES, {**numbers, "pending": pending}))

    def _judge(self, card: Card, pages: int, *, pending: bool) -> Finding:
        """Judge the number of pages."""
        limit = self.options.retired_pages_unhealthy
        status, text, advice = Status.HEALTHY, "", Advice.NONE
        if pages >= limit:
            status, text, advice = Status.UNHEALTHY, f", at or above {limit}", Advice.REPLACE_HARDWARE
        elif pending:
            status, text, advice = Status.DEGRADED, ", and one waits for a reset", Advice.RESET_GPU
        summary = f"{card.title} has {format_count(pages, 'retired page')}{text}"
        bad = status is not Status.HEALTHY
        return Finding(
            "retired_pages", status, summary, card.subject, pages, "pages", limit, advice, lasting=bad
        )


def _judge_rows(card: Card, numbers: dict[str, int]) -> Finding:
    """Judge the four numbers of ``nvmlDeviceGetRemappedRows``."""
    rows = numbers["corrected"] + numbers["uncorrected"]
    status, text, advice = Status.HEALTHY, "", Advice.NONE
    if numbers["failed"]:
        status, advice = Status.UNHEALTHY, Advice.REPLACE_HARDWARE
        text = ", and remapping failed: there are no spare rows left; replace the card"
    elif numbers["pending"]:
        status, text, advice = Status.DEGRADED, ", and one more waits for a reset", Advice.RESET_GPU
    summary = f"{card.title} has {format_count(rows, 'remapped row')}{text}"
    bad = status is not Status.HEALTHY
    return Finding("remapped_rows", status, summary, card.subject, rows, "rows", advice=advice, lasting=bad)


def _retired(handle: Any, cause: int) -> int | None:
    """Count the pages retired for *cause*."""
    pages = ask(pynvml.nvmlDeviceGetRetiredPages, handle, cause)
    return None if pages is None else len(pages)
