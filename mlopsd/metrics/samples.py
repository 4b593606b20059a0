"""The board's metrics: the verdict, each probe's status, and the samples of its last reading.

The readings of one probe mostly have the same series. So their lines are laid out once and filled with the
values of each reading. That costs a fraction of rendering each line, and no dictionary per line.
"""

import logging
import math
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import cast

from mlopsd.entry import Entry
from mlopsd.metrics import families as own
from mlopsd.metrics.exposition import as_number, number_text, series_text
from mlopsd.metrics.families import Family
from mlopsd.probe import Advice, Reading, Sample, Status
from mlopsd.verdict import Verdict

FINDINGS_PER_PROBE = 100  # the worst ones; eight GPUs with every possible problem have about as many
SAMPLES_PER_READING = 10_000
"""Eight GPUs with all values of NVML have less than 2 000 samples. Ten thousand block the event loop for
about 10 ms per reading. Only an unbounded label has more."""

Labels = tuple[tuple[str, str], ...]
_SERIES, _VALUE = attrgetter("name", "labels"), attrgetter("value")
_log = logging.getLogger(__name__)


def board_texts(verdict: Verdict, entries: Sequence[Entry]) -> Iterator[tuple[Family, str]]:
    """Yield each of `BOARD_FAMILIES` with its lines."""
    findings = dict.fromkeys(
        key for entry in entries for key in _finding_keys(entry)
    )  # equal keys are one series
    statuses = (((entry.probe, str(one)), one == entry.status) for entry in entries for one in Status)
    checked = ((entry.probe, entry.checked_at) for entry in entries if entry.checked_at is not None)
    yield _text_of(own.HEALTH_STATUS, (((str(one),), one == verdict.status) for one in Status))
    yield _text_of(own.HEALTH_ADVICE, (((str(one),), one == verdict.advice) for one in Advice))
    yield _text_of(own.PROBE_STATUS, statuses)
    yield _text_of(own.PROBE_FINDING, ((key, 1) for key in findings))
    yield _text_of(own.LAST_CHECK, (((probe,), at.timestamp()) for probe, at in checked))


def _text_of(family: Family, rows: Iterable[tuple[tuple[str, ...], float]]) -> tuple[Family, str]:
    series = ((series_text(family.name, zip(family.labels, key, strict=True)), value) for key, value in rows)
    return family, "".join(f"{one} {number_text(float(value))}\n" for one, value in series)


def _finding_keys(entry: Entry) -> Iterator[tuple[str, ...]]:
    """Yield the labels of each finding that is not healthy, worst first."""
    problems = [finding for finding in entry.reading.findings if finding.status != Status.HEALTHY]
    problems.sort(key=lambda finding: (finding.status, finding.advice), reverse=True)
    for finding in problems[:FINDINGS_PER_PROBE]:
        labels = finding.name, finding.subject or "", str(finding.status), str(finding.advice)
        yield entry.probe, entry.plugin, *labels


@dataclass(frozen=True, slots=True)
class Block:
    """The lines of one probe in one family.

    Attributes:
        family: The family.
        template: The lines, with ``%s`` for each value.
        picks: For each line, the index of its sample in the reading.
    """

    family: Family
    template: str
    picks: "array[int]"

    def fill(self, values: Sequence[float | None]) -> tuple[str, list[str]]:
        """Return the lines with *values*, and a reason for each omitted line.

        A counter must not be negative or NaN: one such value invalidates the whole page in OpenMetrics.
        """
        shown = cast("tuple[float, ...]", tuple(map(values.__getitem__, self.picks)))  # or None, see below
        is_counter = self.family.kind == "counter"
        if None not in shown and all(map(math.isfinite, shown)) and not (is_counter and min(shown) < 0):
            return (self.template % shown).replace(".0\n", "\n"), []  # in Python's own form
        lines, refused = [], []
        for line, value in zip(
            self.template.split("\n"), shown, strict=False
        ):  # the template ends in a newline
            if value is None or (is_counter and not value >= 0):
                refused.append(f"{self.family.name}: a value that a {self.family.kind} cannot have")
            else:
                lines.append(f"{line % number_text(value)}\n")
        return "".join(lines), refused


class ProbeSamples:
    """The samples of one probe's last reading, as lines.

    Attributes:
        families: The families of the plugin, by the name of the metric.
        texts: The lines of each family with samples, by the family's name.
    """

    def __init__(self, probe: str, families: Mapping[str, Family]) -> None:
        self.families = families
        self.texts: dict[str, str] = {}
        self._probe = probe
        self._reading: Reading | None = None
        self._series: list[tuple[str, Labels]] = []  # of the samples in the blocks' layout
        self._blocks: list[Block] = []
        self._misplaced: list[str] = []
        self._logged: set[str] = set()

    def take(self, reading: Reading) -> int:
        """Show *reading* if it is new; return the number of its rejected samples."""
        if reading is self._reading:
            return 0
        self._reading = reading
        samples, refused = _sound(reading.samples)
        before, self._series = (
            self._series,
            list(map(_SERIES, samples)),
        )  # the previous list keeps its labels alive
        if before != self._series:
            self._blocks, self._misplaced = _lay_out(self._probe, self.families, samples)
        refused += self._misplaced
        values, self.texts = _numbers(samples), {}
        for block in self._blocks:
            self.texts[block.family.name], complaints = block.fill(values)
            refused += complaints
        self._log(refused)
        return len(refused)

    def _log(self, refused: list[str]) -> None:
        """Log each reason once, until a reading is without it."""
        causes = set(refused)
        for cause in sorted(causes - self._logged)[:3]:  # the others are similar
            extra = {"probe": self._probe, "cause": cause, "refused": len(refused)}
            _log.warning("sample rejected", extra=extra)
        self._logged = causes


class Samples:
    """The samples of every probe on the board. A missing subject disappears with its reading.

    Any thread may call `hide`. Use everything else only on the event loop.

    Attributes:
        revision: Grows with each change of the families.
    """

    def __init__(self) -> None:
        self.revision = 0
        self._families: dict[str, dict[str, Family]] = {}  # by plugin and metric; replaced, never changed
        self._probes: dict[str, ProbeSamples] = {}
        self._seen = (-1, -1)

    def show(self, plugin: str, name: str, family: Family) -> None:
        """Show the samples called *name* of probes of *plugin* in *family*."""
        shown = self._families.get(plugin, {})
        if name not in shown:
            self._families[plugin] = {**shown, name: family}
            self.revision += 1

    def hide(self, family: Family) -> None:
        """Reject samples of *family*."""
        for plugin, shown in list(self._families.items()):
            if family in shown.values():
                self._families[plugin] = {name: other for name, other in shown.items() if other != family}
                self.revision += 1

    def refresh(self, version: int, entries: Sequence[Entry]) -> int:
        """Show *entries* of the board's *version*; return the number of rejected samples."""
        seen = version, self.revision
        if seen == self._seen:
            return 0
        self._seen = seen
        for probe in self._probes.keys() - {entry.probe for entry in entries}:
            del self._probes[probe]
        return sum(map(self.take, entries))

    def take(self, entry: Entry) -> int:
        """Show *entry*; return the number of its rejected samples."""
        return self._of(entry).take(entry.reading)

    def texts(self) -> Iterator[tuple[Family, str]]:
        """Yield each family with its lines, as of the last `refresh`."""
        families = {family.name: family for shown in self._families.values() for family in shown.values()}
        texts = [probe.texts for probe in self._probes.values()]
        for name, family in families.items():
            yield family, "".join([text[name] for text in texts if name in text])

    def _of(self, entry: Entry) -> ProbeSamples:
        families = self._families.setdefault(entry.plugin, {})
        probe = self._probes.get(entry.probe)
        if probe is None or probe.families is not families:
            probe = self._probes[entry.probe] = ProbeSamples(entry.probe, families)
        return probe


def _lay_out(
    probe: str, families: Mapping[str, Family], samples: Sequence[Sample]
) -> tuple[list[Block], list[str]]:
    """Lay out a line for each sample, and a reason for each rejected one. The last of equal ones counts."""
    written: dict[
        tuple[Labels, tuple[str, ...]], str
    ] = {}  # families share labels, and escaping is expensive
    places: dict[str, dict[str, int]] = {}
    refused: list[str] = []
    for place, sample in enumerate(samples):
        try:
            family = families[sample.name]
            key = sample.labels, family.labels
            if key not in written:
                written[key] = _label_text(probe, family.labels[1:], sample.labels)
            places.setdefault(sample.name, {})[written[key]] = place
        except KeyError:
            refused.append(f"{sample.name}: the probe does not declare this sample")
        except (TypeError, ValueError) as error:
            refused.append(f"{sample.name}: {error}")
    blocks = []
    for name, placed in places.items():
        family = families[name]
        lines = "".join(f"{family.name}{labels.replace('%', '%%')} %s\n" for labels in placed)
        blocks.append(Block(family, lines, array("I", placed.values())))
    return blocks, refused


def _label_text(probe: str, declared: tuple[str, ...], labels: Labels) -> str:
    given = dict(labels)
    if len(labels) != len(declared) or given.keys() != set(declared):
        raise ValueError(f"it has the labels {declared}, not {tuple(given)}")
    values = (probe, *(str(given[label]) for label in declared))
    return series_text("", zip(("probe", *declared), values, strict=True))


def _sound(samples: Sequence[Sample]) -> tuple[Sequence[Sample], list[str]]:
    """Return the valid *samples* up to the limit, and a reason for each other one."""
    refused = []
    if (over := len(samples) - SAMPLES_PER_READING) > 0:
        refused += [f"more than {SAMPLES_PER_READING} samples in one reading"] * over
        samples = samples[:SAMPLES_PER_READING]
    if not set(map(type, samples)) <= {Sample}:
        refused += [f"a {type(one).__name__} is not a sample" for one in samples if type(one) is not Sample]
        samples = [one for one in samples if type(one) is Sample]
    return samples, refused


def _numbers(samples: Iterable[Sample]) -> Sequence[float | None]:
    """Return the values, with None for a value that is not a number."""
    values = tuple(map(_VALUE, samples))
    return values if set(map(type, values)) <= {float} else tuple(map(as_number, values))
