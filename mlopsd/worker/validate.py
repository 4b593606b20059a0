"""The validation of what a probe returned."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mlopsd.probe import Advice, Finding, Reading, Sample, Status
from mlopsd.worker.worker import InvalidReading

MOST_SAMPLES = 25_000  # more is a mistake of the probe, and a load on Prometheus
MOST_FINDINGS = 1_000
MOST_FACTS_BYTES = 256 * 1024


def verified(result: object) -> Reading:
    """Return *result* as a reading of plain values.

    The reading must have valid parts, a status no better than its findings, and facts that are JSON.

    Raises:
        InvalidReading: It is not; the message names the part.
    """
    if not isinstance(result, Reading):
        found = type(result).__name__
        raise InvalidReading(f"check returned {found}, not a Reading; return mlopsd.probe.Reading(…)")
    _check_many("findings", result.findings, Finding, MOST_FINDINGS)
    _check_many("samples", result.samples, Sample, MOST_SAMPLES)
    for finding in result.findings:
        _check_finding(finding)
    if not isinstance(result.status, Status) or not isinstance(result.summary, str):
        raise InvalidReading("the reading's status is not a Status, or its summary is not text")
    _check_evidence(result)
    return Reading(
        findings=tuple(result.findings),
        samples=tuple(result.samples),
        facts=_plain(result.facts),
        status=result.status,
        summary=result.summary,
    )


def _check_many(what: str, values: object, item_type: type, most: int) -> None:
    if not isinstance(values, Sequence) or not all(isinstance(value, item_type) for value in values):
        raise InvalidReading(f"the reading's {what} are not a list of {item_type.__name__}")
    if len(values) > most:
        raise InvalidReading(f"the reading has {len(values)} {what}, more than {most}")


def _check_finding(finding: Finding) -> None:
    texts = (finding.name, finding.summary, finding.subject or "", finding.unit or "")
    if not all(isinstance(text, str) for text in texts):
        raise InvalidReading(f"a finding's name, summary, subject or unit is not text: {finding!r:.200}")
    if not isinstance(finding.status, Status) or not isinstance(finding.advice, Advice):
        raise InvalidReading(
            f"finding {finding.name!r}: its status is not a Status, or its advice is not an Advice"
        )
    if not isinstance(finding.observed, int | float | str | None):
        raise InvalidReading(f"finding {finding.name!r}: what it observed is neither a number nor text")
    if not isinstance(finding.limit, int | float | None):
        raise InvalidReading(f"finding {finding.name!r}: its limit is not a number")
    if not isinstance(finding.lasting, bool):
        raise InvalidReading(f"finding {finding.name!r}: lasting is neither True nor False")


def _check_evidence(reading: Reading) -> None:
    worst = max(reading.findings, key=lambda finding: finding.status, default=None)
    if worst is None and reading.status < Status.UNKNOWN:
        raise InvalidReading(
            f"the reading is {reading.status} without a finding; add a finding for the checked fact"
        )
    if worst is not None and reading.status < worst.status:
        better = f"the reading is {reading.status}, but its finding {worst.name!r} is {worst.status}"
        raise InvalidReading(f"{better}; omit its status, or make it no better than the worst finding")


def _plain(facts: object) -> dict[str, Any]:
    if not isinstance(facts, Mapping):
        raise InvalidReading(f"the reading's facts are {type(facts).__name__}, not a mapping")
    try:
        text = json.dumps(dict(facts), default=str)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidReading(f"the reading's facts are not JSON: {error}") from error
    if len(text) > MOST_FACTS_BYTES:
        raise InvalidReading(f"the reading's facts take {len(text)} bytes, more than {MOST_FACTS_BYTES}")
    plain: dict[str, Any] = json.loads(text)
    return plain
