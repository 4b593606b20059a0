"""Log lines for each change of a status; the journal keeps them after the daemon ends."""

import logging

from mlopsd.entry import Entry
from mlopsd.probe import Status
from mlopsd.verdict import Verdict

log = logging.getLogger("mlopsd.daemon")


def entry_changed(entry: Entry, before: Status) -> None:
    """Log that a probe's status has changed from *before*."""
    extra = {
        "probe": entry.probe,
        "status": str(entry.status),
        "before": str(before),
        "summary": entry.reading.summary,
        "findings": [
            {"name": finding.name, "subject": finding.subject, "advice": str(finding.advice)}
            for finding in entry.reading.findings
            if finding.status != Status.HEALTHY
        ],
    }
    log.log(_level(entry.status, before), "probe status changed", extra=extra)


def verdict_changed(verdict: Verdict, before: Status) -> None:
    """Log that the host's status has changed from *before*."""
    extra = {
        "status": str(verdict.status),
        "before": str(before),
        "summary": verdict.summary,
        "advice": str(verdict.advice),
    }
    log.log(_level(verdict.status, before), "health changed", extra=extra)


def _level(status: Status, before: Status) -> int:
    return logging.WARNING if status > before else logging.INFO
