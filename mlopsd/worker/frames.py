"""What goes between the daemon and the process of a probe: length-framed JSON, and a reading in it."""

import datetime
import json
import struct
from collections.abc import Mapping
from typing import Any

from mlopsd.probe import Advice, Finding, Reading, Sample, Status

LENGTH = struct.Struct("!I")
MOST_BYTES = 8 * 1024 * 1024  # a frame; a reading of 25 000 samples takes about 3 MB
TIME = "mlopsd.time"  # the only key of the object that stands for a date or a time, which TOML has
TIMES = {kind.__name__: kind for kind in (datetime.datetime, datetime.date, datetime.time)}

Frame = Mapping[str, Any]


class BadFrame(ValueError):
    """Bytes that are no frame of ours."""


def encode(frame: Frame) -> bytes:
    """*frame* with its length before it.

    Raises:
        BadFrame: it is longer than `MOST_BYTES`, or there is something in it that JSON cannot say.
    """
    try:
        body = json.dumps(frame, separators=(",", ":"), default=_from_time).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise BadFrame(f"no JSON: {error}") from error
    if len(body) > MOST_BYTES:
        raise BadFrame(f"{len(body)} bytes in one frame, more than {MOST_BYTES}")
    return LENGTH.pack(len(body)) + body


def length(head: bytes) -> int:
    """How many bytes follow *head*.

    Raises:
        BadFrame: more than `MOST_BYTES`.
    """
    (size,) = LENGTH.unpack(head)
    if size > MOST_BYTES:
        raise BadFrame(f"{size} bytes in one frame, more than {MOST_BYTES}")
    return int(size)


def decode(body: bytes, *, with_times: bool = False) -> dict[str, Any]:
    """The frame in *body*; *with_times*, the dates and times in it are such again.

    Raises:
        BadFrame: it is no JSON object.
    """
    try:
        frame = json.loads(body, object_hook=_to_time if with_times else None)
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise BadFrame(f"no JSON: {error}") from error
    if not isinstance(frame, dict):
        raise BadFrame("no JSON object")
    return frame


def from_reading(reading: Reading) -> dict[str, Any]:
    """*reading* as JSON."""
    return {
        "status": int(reading.status),
        "summary": reading.summary,
        "findings": [_from_finding(finding) for finding in reading.findings],
        "samples": [[sample.name, sample.value, sample.labels] for sample in reading.samples],
        "facts": dict(reading.facts),
    }


def to_reading(frame: Frame) -> Reading:
    """The reading in *frame*.

    Raises:
        BadFrame: a part is missing or of another kind.
    """
    try:
        return Reading(
            findings=tuple(_to_finding(finding) for finding in frame["findings"]),
            samples=tuple(_to_sample(*sample) for sample in frame["samples"]),
            facts=frame["facts"],
            status=Status(frame["status"]),
            summary=frame["summary"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BadFrame(f"no reading: {type(error).__name__}: {error}") from error


def _from_time(value: object) -> dict[str, Any]:
    if not isinstance(value, datetime.date | datetime.time) or type(value) not in TIMES.values():
        raise TypeError(f"{type(value).__name__} is no plain value")
    return {TIME: [type(value).__name__, value.isoformat()]}


def _to_time(found: dict[str, Any]) -> Any:
    if set(found) != {TIME}:
        return found
    kind, text = found[TIME]
    return TIMES[kind].fromisoformat(text)


def _from_finding(finding: Finding) -> list[Any]:
    return [
        finding.name,
        int(finding.status),
        finding.summary,
        finding.subject,
        finding.observed,
        finding.unit,
        finding.limit,
        int(finding.advice),
    ]


def _to_finding(parts: list[Any]) -> Finding:
    name, status, summary, subject, observed, unit, limit, advice = parts
    return Finding(name, Status(status), summary, subject, observed, unit, limit, Advice(advice))


def _to_sample(name: str, value: float, labels: list[list[str]]) -> Sample:
    return Sample(name, value, tuple((label, text) for label, text in labels))
