"""The encoding of readings from a probe's process, and of options to it.

- Eight GPUs have a thousand samples, with the same names and labels at every check. These are the *layout*.
  The process sends it once, then only values. A request names the layout that the daemon has; the process
  sends a layout only if it is another one.
- Options are JSON, with a form of its own for TOML's dates and times.
"""

import datetime
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, Literal

from mlopsd.probe import Advice, Finding, ProbeError, Reading, ReloadRefused, Sample, Status
from mlopsd.process import frames
from mlopsd.process.frames import BadFrame, FrameLimits
from mlopsd.worker.worker import InvalidReading

LIMITS = FrameLimits(header=8 * 1024 * 1024, body=0)  # a reading of 25 000 samples takes 0.4 to 3 MB
TIME = "mlopsd.time"  # the only key of an object that encodes a date or a time
TIMES = {time_type.__name__: time_type for time_type in (datetime.datetime, datetime.date, datetime.time)}

Labels = tuple[tuple[str, str], ...]
Layout = list[tuple[str, Labels]]


ErrorKind = Literal[
    "probe_error", "reload_refused", "invalid_reading", "raised"
]  # "raised" is any other exception
OURS: Mapping[ErrorKind, type[Exception]] = {
    "probe_error": ProbeError,
    "reload_refused": ReloadRefused,
    "invalid_reading": InvalidReading,
}


def kind_of(error: BaseException) -> ErrorKind:
    """Return the kind of *error*, the exception of a probe's call."""
    return next((kind for kind, ours in OURS.items() if isinstance(error, ours)), "raised")


def encode_options(table: Mapping[str, Any]) -> str:
    """Return a probe's own keys as JSON.

    Raises:
        BadFrame: JSON cannot represent a value, with its type.
    """
    return frames.encode(table, _from_time).decode()


def decode_options(text: str) -> dict[str, Any]:
    """Return the keys that `encode_options` has encoded.

    Raises:
        BadFrame: *text* is not a table.
    """
    return frames.decode(text, _to_time)


class Outgoing:
    """The encoder of readings, in the process of their probe."""

    def __init__(self) -> None:
        self._layout: Layout | None = None
        self._number = 0

    def frame(self, reading: Reading, known: int | None = None) -> dict[str, Any]:
        """Return *reading* for a daemon that has the layout number *known*, or None if it has none."""
        return {
            "status": int(reading.status),
            "summary": reading.summary,
            "findings": [_from_finding(finding) for finding in reading.findings],
            "samples": self._packed(reading.samples, known),
            "facts": dict(reading.facts),
        }

    def _packed(self, samples: Sequence[Sample], known: int | None) -> dict[str, Any]:
        layout = [(sample.name, sample.labels) for sample in samples]
        is_new = layout != self._layout
        if is_new:
            self._layout, self._number = layout, self._number + 1
        packed = {"layout": self._number, "values": [sample.value for sample in samples]}
        # An earlier process may have used the same number for other samples, so always send a new layout.
        return packed | _from_layout(layout) if is_new or known != self._number else packed


class Incoming:
    """The decoder of the readings of one process, in the daemon.

    Attributes:
        known: The number of the layout that the process last sent; None before the first.
    """

    def __init__(self) -> None:
        self.known: int | None = None
        self._last: tuple[Sample, ...] = ()

    def reading(self, frame: Mapping[str, Any]) -> Reading:
        """Return the reading in *frame*.

        Raises:
            BadFrame: A part is missing or has another type.
        """
        try:
            return Reading(
                findings=tuple(_to_finding(finding) for finding in frame["findings"]),
                samples=self._unpacked(**frame["samples"]),
                facts=frame["facts"],
                status=Status(frame["status"]),
                summary=frame["summary"],
            )
        except (LookupError, TypeError, ValueError) as error:
            raise BadFrame(f"not a reading: {type(error).__name__}: {error}") from error

    def _unpacked(self, *, layout: int, values: Sequence[float], **new_layout: Any) -> tuple[Sample, ...]:
        if new_layout:
            parts = zip(_to_layout(**new_layout), values, strict=True)
            samples = [Sample(name, value, labels) for (name, labels), value in parts]
        elif layout == self.known:
            pairs = zip(self._last, values, strict=True)
            samples = [
                last if last.value == value else Sample(last.name, value, last.labels)
                for last, value in pairs
            ]
        else:
            raise ValueError(f"samples of the layout {layout!r}, which was not sent")
        self._last, self.known = tuple(samples), int(layout)
        return self._last


def _from_time(value: object) -> dict[str, Any]:
    if not isinstance(value, datetime.date | datetime.time) or type(value) not in TIMES.values():
        raise TypeError(f"{type(value).__name__} is not a plain value")
    return {TIME: [type(value).__name__, value.isoformat()]}


def _to_time(found: dict[str, Any]) -> Any:
    if set(found) != {TIME}:
        return found
    name, text = found[TIME]
    return TIMES[name].fromisoformat(text)


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
        finding.lasting,
    ]


def _to_finding(parts: list[Any]) -> Finding:
    name, status, summary, subject, observed, unit, limit, advice, lasting = parts
    return Finding(name, Status(status), summary, subject, observed, unit, limit, Advice(advice), lasting)


def _from_layout(layout: Layout) -> dict[str, Any]:
    """Return *layout* with each name, each label pair and each set of labels only once.

    That is a tenth of the full size. Invalid labels of third-party code that are not hashable are sent in
    full; the metrics reject them.
    """
    try:
        names, name_of = _numbered(name for name, _ in layout)
        sets, labels_of = _numbered(labels for _, labels in layout)
        pairs: dict[Hashable, int] = {}
        labels = [[pairs.setdefault(pair, len(pairs)) for pair in label_set] for label_set in sets]
    except TypeError:
        return _written_out(layout)
    return {
        "names": names,
        "pairs": list(pairs),
        "labels": labels,
        "name_of": name_of,
        "labels_of": labels_of,
    }


def _numbered(values: Iterable[Any]) -> tuple[list[Any], list[int]]:
    """Return the distinct *values*, and for each value its index among them."""
    numbers: dict[Hashable, int] = {}
    places = [numbers.setdefault(value, len(numbers)) for value in values]
    return list(numbers), places


def _written_out(layout: Layout) -> dict[str, Any]:
    every = list(range(len(layout)))
    return {
        "names": [name for name, _ in layout],
        "pairs": None,
        "labels": [labels for _, labels in layout],
        "name_of": every,
        "labels_of": every,
    }


def _to_layout(
    *,
    names: Sequence[str],
    pairs: Sequence[tuple[str, str]] | None,
    labels: Sequence[Sequence[Any]],
    name_of: Sequence[int],
    labels_of: Sequence[int],
) -> Layout:
    """Return the layout. Equal parts are shared: 2000 samples of a GPU host take 0.3 MiB instead of 3.8."""
    if pairs is None:
        shared = [tuple((label, text) for label, text in label_set) for label_set in labels]
    else:
        known = [(label, text) for label, text in pairs]
        shared = [tuple([known[at] for at in label_set]) for label_set in labels]
    return [(names[name], shared[at]) for name, at in zip(name_of, labels_of, strict=True)]
