"""A reading on its way out of a probe's process: what its samples are called goes over once, then the values.

Eight GPUs have a thousand samples, which have the same names and labels at every check. The *layout* is those
names and labels; who asks says which layout it has, and is sent another only if there is another.

The other way go the options, of which TOML's dates and times are no JSON.
"""

import datetime
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, Literal

from mlopsd.probe import Advice, Finding, ProbeError, Reading, ReloadRefused, Sample, Status
from mlopsd.process import frames
from mlopsd.process.frames import BadFrame, FrameLimits
from mlopsd.worker.worker import InvalidReading

LIMITS = FrameLimits(header=8 * 1024 * 1024, body=0)  # a reading of 25 000 samples takes 0.4 to 3 MB
TIME = "mlopsd.time"  # the only key of the object that stands for a date or a time
TIMES = {kind.__name__: kind for kind in (datetime.datetime, datetime.date, datetime.time)}

Labels = tuple[tuple[str, str], ...]
Layout = list[tuple[str, Labels]]


ErrorKind = Literal["probe_error", "reload_refused", "invalid_reading", "raised"]  # the last is any other
OURS: Mapping[ErrorKind, type[Exception]] = {
    "probe_error": ProbeError,
    "reload_refused": ReloadRefused,
    "invalid_reading": InvalidReading,
}


def kind_of(error: BaseException) -> ErrorKind:
    """Return the kind of *error*, which a call of a probe ended with."""
    return next((kind for kind, ours in OURS.items() if isinstance(error, ours)), "raised")


def encode_options(table: Mapping[str, Any]) -> str:
    """Return a probe's own keys as JSON; a BadFrame names a value that has no form there."""
    return frames.encode(table, _from_time).decode()


def decode_options(text: str) -> dict[str, Any]:
    """Return the keys that `encode_options` was given; a BadFrame says that *text* is no table."""
    return frames.decode(text, _to_time)


class Outgoing:
    """Readings as JSON, in the process of their probe."""

    def __init__(self) -> None:
        self._layout: Layout | None = None
        self._number = 0

    def frame(self, reading: Reading, known: int | None = None) -> dict[str, Any]:
        """Return *reading* for one who has the layout *known*; None has none."""
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
        # A forerunner may have had the same number for other samples, so what is new is told whoever asks.
        return packed | _from_layout(layout) if is_new or known != self._number else packed


class Incoming:
    """The readings of one process, in the daemon.

    Attributes:
        known: the number of the layout that the process last sent; None before the first.
    """

    def __init__(self) -> None:
        self.known: int | None = None
        self._last: tuple[Sample, ...] = ()

    def reading(self, frame: Mapping[str, Any]) -> Reading:
        """Return the reading in *frame*.

        Raises:
            BadFrame: a part is missing or of another kind.
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
            raise BadFrame(f"no reading: {type(error).__name__}: {error}") from error

    def _unpacked(self, *, layout: int, values: Sequence[float], **told: Any) -> tuple[Sample, ...]:
        if told:
            parts = zip(_to_layout(**told), values, strict=True)
            samples = [Sample(name, value, labels) for (name, labels), value in parts]
        elif layout == self.known:
            pairs = zip(self._last, values, strict=True)
            samples = [
                last if last.value == value else Sample(last.name, value, last.labels)
                for last, value in pairs
            ]
        else:
            raise ValueError(f"samples of the layout {layout!r}, which was not told")
        self._last, self.known = tuple(samples), int(layout)
        return self._last


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
        finding.lasting,
    ]


def _to_finding(parts: list[Any]) -> Finding:
    name, status, summary, subject, observed, unit, limit, advice, lasting = parts
    return Finding(name, Status(status), summary, subject, observed, unit, limit, Advice(advice), lasting)


def _from_layout(layout: Layout) -> dict[str, Any]:
    """*layout* with each name, each label with its value, and each set of those once.

    Written out they are ten times as much. Labels that cannot be told apart (a stranger's, and no text) go as
    they are; the metrics refuse them.
    """
    try:
        names, name_of = _numbered(name for name, _ in layout)
        sets, labels_of = _numbered(labels for _, labels in layout)
        pairs: dict[Hashable, int] = {}
        labels = [[pairs.setdefault(pair, len(pairs)) for pair in one] for one in sets]
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
    """Each of *values* once, and for each of them its place there."""
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
    """The layout, in which is shared what is equal: 2000 samples of a GPU host's take 0.3 MiB and not 3.8."""
    if pairs is None:
        shared = [tuple((label, text) for label, text in one) for one in labels]
    else:
        told = [(label, text) for label, text in pairs]
        shared = [tuple([told[at] for at in one]) for one in labels]
    return [(names[name], shared[its]) for name, its in zip(name_of, labels_of, strict=True)]
