"""What goes between the daemon and the process of a probe: length-framed JSON, and a reading in it."""

import datetime
import json
import struct
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

from mlopsd.probe import Advice, Finding, Reading, Sample, Status

LENGTH = struct.Struct("!I")
READY = LENGTH.pack(0)  # an empty frame, the first one of a process: its probe has been made, or cannot be
MOST_BYTES = 8 * 1024 * 1024  # a frame; a reading of 25 000 samples takes 0.4 to 3 MB
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
        "samples": _from_samples(reading.samples),
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
            samples=_to_samples(**frame["samples"]),
            facts=frame["facts"],
            status=Status(frame["status"]),
            summary=frame["summary"],
        )
    except (LookupError, TypeError, ValueError) as error:
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


def _from_samples(samples: Sequence[Sample]) -> dict[str, Any]:
    """*samples* with each name, each label with its value, and each set of those once.

    Written out they are ten times as much. Labels that cannot be told apart (a stranger's, and no text) go as
    they are; the metrics refuse them.
    """
    try:
        names, name_of = _numbered(sample.name for sample in samples)
        sets, labels_of = _numbered(sample.labels for sample in samples)
        pairs: dict[Hashable, int] = {}
        labels = [[pairs.setdefault(pair, len(pairs)) for pair in one] for one in sets]
    except TypeError:
        return _written_out(samples)
    return {
        "names": names,
        "pairs": list(pairs),
        "labels": labels,
        "name_of": name_of,
        "labels_of": labels_of,
        "values": [sample.value for sample in samples],
    }


def _numbered(values: Iterable[Any]) -> tuple[list[Any], list[int]]:
    """Each of *values* once, and for each of them its place there."""
    numbers: dict[Hashable, int] = {}
    places = [numbers.setdefault(value, len(numbers)) for value in values]
    return list(numbers), places


def _written_out(samples: Sequence[Sample]) -> dict[str, Any]:
    every = list(range(len(samples)))
    return {
        "names": [sample.name for sample in samples],
        "pairs": None,
        "labels": [sample.labels for sample in samples],
        "name_of": every,
        "labels_of": every,
        "values": [sample.value for sample in samples],
    }


def _to_samples(
    *,
    names: Sequence[str],
    pairs: Sequence[tuple[str, str]] | None,
    labels: Sequence[Sequence[Any]],
    name_of: Sequence[int],
    labels_of: Sequence[int],
    values: Sequence[float],
) -> tuple[Sample, ...]:
    """The samples, which share what is equal: 2000 of a GPU host's take 0.3 MiB and not 3.8."""
    if pairs is None:
        shared = [tuple((label, text) for label, text in one) for one in labels]
    else:
        told = [(label, text) for label, text in pairs]
        shared = [tuple([told[at] for at in one]) for one in labels]
    places = zip(name_of, values, labels_of, strict=True)
    return tuple(Sample(names[name], value, shared[its_labels]) for name, value, its_labels in places)
