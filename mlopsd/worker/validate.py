"""The validation of what a probe returned."""

import datetime
import decimal
import enum
import inspect
import ipaddress
import json
import pathlib
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pydantic

from mlopsd.probe import Advice, Finding, Reading, Sample, Status
from mlopsd.worker.worker import InvalidReading

MOST_SAMPLES = 25_000  # more is a mistake of the probe, and a load on Prometheus
MOST_FINDINGS = 1_000
MOST_FACTS_BYTES = 256 * 1024
LONGEST_TEXT = 10_000  # characters of a summary; it goes to pages, notifications and logs
LONGEST_LABEL = 1_000  # characters of a name, a subject or a unit, which are labels in Prometheus
AS_TEXT = (
    decimal.Decimal,
    enum.Enum,
    ipaddress.IPv4Address,
    ipaddress.IPv6Address,
    pathlib.PurePath,
    pydantic.SecretStr,
    datetime.timedelta,
    uuid.UUID,
)  # of facts


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
    _check_length("the reading", result.summary, LONGEST_TEXT)
    _check_evidence(result)
    return Reading(
        findings=tuple(result.findings),
        samples=tuple(result.samples),
        facts=plain_facts(result.facts),
        status=result.status,
        summary=result.summary,
    )


def answered(result: object) -> str:
    """Return *result*, of a reload, as its sentence.

    Raises:
        InvalidReading: It is no text.
    """
    if not isinstance(result, str):
        found = type(result).__name__
        raise InvalidReading(f"reload returned {found}, not a sentence; return a str that says what was done")
    return result


def plain(call: str, result: Any) -> Any:
    """Return *result* of *call* in a thread, where nothing awaits it.

    Raises:
        InvalidReading: It is a coroutine.
    """
    if not inspect.isawaitable(result):
        return result
    if inspect.iscoroutine(result):
        result.close()
    if call == "check":
        raise InvalidReading("check returned a coroutine, which nothing awaits; write async def check")
    fix = f"write def {call}, or make check a coroutine too"
    raise InvalidReading(f"{call} is a coroutine beside a plain check, so it was not run; {fix}")


def distinct(reading: Reading) -> Reading:
    """Return *reading* if no two of its samples have the same name and labels.

    Raises:
        InvalidReading: Two have; the message names the metric.
    """
    series = [(sample.name, sample.labels) for sample in reading.samples]
    try:
        repeated = Counter(series).most_common(1) if len(set(series)) < len(series) else []
    except TypeError:  # labels that are no texts have no series; the metrics reject them
        return reading
    for (name, labels), times in repeated:
        shown = ", ".join(f"{label}={text!r}" for label, text in labels)
        raise InvalidReading(f"{times} samples of {name}{{{shown}}}; report each series once")
    return reading


def _check_many(what: str, values: object, item_type: type, most: int) -> None:
    if not isinstance(values, Sequence) or not all(isinstance(value, item_type) for value in values):
        raise InvalidReading(f"the reading's {what} are not a list of {item_type.__name__}")
    if len(values) > most:
        raise InvalidReading(f"the reading has {len(values)} {what}, more than {most}")


def _check_finding(finding: Finding) -> None:
    texts = (finding.name, finding.summary, finding.subject or "", finding.unit or "")
    if not all(isinstance(text, str) for text in texts):
        raise InvalidReading(f"a finding's name, summary, subject or unit is not text: {finding!r:.200}")
    if not finding.name.strip():
        raise InvalidReading(f"a finding has no name: {finding.summary!r:.60}; name what was judged")
    for label in (finding.name, finding.subject or "", finding.unit or ""):
        _check_length("a finding", label, LONGEST_LABEL)
    for text in (finding.summary, finding.observed):
        _check_length(f"finding {finding.name!r}", text, LONGEST_TEXT)
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


def _check_length(what: str, text: object, longest: int) -> None:
    if isinstance(text, str) and len(text) > longest:
        found = f"{what} has a text of {len(text)} characters, more than {longest}"
        raise InvalidReading(f"{found}: {text!r:.60}; put details into the facts")


def _check_evidence(reading: Reading) -> None:
    worst = max(reading.findings, key=lambda finding: finding.status, default=None)
    if worst is None and reading.status < Status.UNKNOWN:
        raise InvalidReading(
            f"the reading is {reading.status} without a finding; add a finding for the checked fact"
        )
    if worst is not None and reading.status < worst.status:
        better = f"the reading is {reading.status}, but its finding {worst.name!r} is {worst.status}"
        raise InvalidReading(f"{better}; omit its status, or make it no better than the worst finding")


def plain_facts(facts: object) -> dict[str, Any]:
    """Return *facts* as JSON's types.

    Raises:
        InvalidReading: They are not JSON, or too many; the message names the part.
    """
    if not isinstance(facts, Mapping):
        raise InvalidReading(f"the reading's facts are {type(facts).__name__}, not a mapping")
    try:
        text = json.dumps(dict(facts), default=_as_json)
    except (TypeError, ValueError, RecursionError) as error:
        why = _why_not_json(facts, error)
        raise InvalidReading(f"the reading's facts are not JSON: {why}") from error
    if len(text) > MOST_FACTS_BYTES:
        raise InvalidReading(f"the reading's facts take {len(text)} bytes, more than {MOST_FACTS_BYTES}")
    plain: dict[str, Any] = json.loads(text)
    return plain


def _why_not_json(facts: Mapping[Any, Any], error: Exception) -> str:
    try:
        return next(_complaints(facts, "facts"), str(error))
    except RecursionError:
        return "they contain themselves, or are nested too deep"


def _as_json(value: Any) -> Any:
    """Return *value*, which `json` does not know, as a value that it knows.

    Raises:
        TypeError: There is no obvious one, or it is a time without a zone.
    """
    if isinstance(value, datetime.datetime) and value.tzinfo is None:
        raise TypeError("a time without a zone")
    if type(value).__module__ == "numpy" and hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, AS_TEXT):
        return str(value)
    raise TypeError(type(value).__name__)


def _complaints(value: Any, place: str) -> Iterator[str]:
    """Yield a line for each part of *value* that is no JSON, with its place."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _complaints(item, f"{place}.{key}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _complaints(item, f"{place}.{index}")
    elif isinstance(value, datetime.datetime) and value.tzinfo is None:
        yield f"{place} is a time without a zone; use datetime.now(UTC)"
    elif not isinstance(value, str | int | float | bool | None):
        try:
            _as_json(value)
        except TypeError:
            yield f"{type(value).__name__} in {place}; use text, a number, a list or a dict"
