"""What the readings on the board hold for Prometheus; a vanished subject is gone with its reading.

Readings of one probe mostly hold the same series each time. So a probe's layout serves until a reading
holds other series: to fill its gaps costs a fraction of writing the lines anew, and no dictionary per line.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter

from mlopsd.board import Board
from mlopsd.entry import Entry
from mlopsd.metrics.exposition import as_number
from mlopsd.metrics.layout import Labels, Layout, LayoutDraft, SampleFamily
from mlopsd.probe import Reading, Sample

SAMPLES_PER_READING = 10_000
"""Eight GPUs with all that NVML tells are below 2 000. Ten thousand hold the event loop for about 10 ms
at each reading; more than that is a label that is not bounded."""

_NAME, _LABELS, _VALUE = attrgetter("name"), attrgetter("labels"), attrgetter("value")
_log = logging.getLogger(__name__)


class Sheet:
    """One probe's part of the page: its last reading, written into its layout."""

    def __init__(self, probe: str, families: Mapping[str, SampleFamily]) -> None:
        self._probe = probe
        self._families = families
        self._reading: Reading | None = None
        self._names: list[str] = []  # of the reading that is shown, so these keep nothing else alive
        self._labels: list[Labels] = []
        self._layout = Layout((), ())

    def take(self, reading: Reading) -> list[str]:
        """Show *reading*; says what is wrong with each sample that is not shown."""
        if reading is self._reading:
            return []
        self._reading = reading
        samples, refused = _sound(reading.samples)
        self._fit(samples)
        return [*refused, *self._layout.refused, *self._fill(_numbers(samples))]

    def clear(self) -> None:
        """Show nothing."""
        for block in self._layout.blocks:
            block.family.put(self._probe, "")

    def _fit(self, samples: Sequence[Sample]) -> None:
        """Make sure that the layout is that of *samples*."""
        names, labels = list(map(_NAME, samples)), list(map(_LABELS, samples))
        if names != self._names or labels != self._labels:
            before = self._layout
            self._layout = LayoutDraft(self._probe, self._families).layout(samples)
            kept = {block.family.name for block in self._layout.blocks}
            for block in before.blocks:
                if block.family.name not in kept:
                    block.family.put(self._probe, "")
        self._names, self._labels = names, labels

    def _fill(self, values: Sequence[float | None]) -> list[str]:
        refused: list[str] = []
        for block in self._layout.blocks:
            text, complaints = block.fill(values)
            block.family.put(self._probe, text)
            refused += complaints
        return refused


class Samples:
    """Brings the readings of *board* onto the page. *refused* is told how many samples were left out."""

    def __init__(self, board: Board, refused: Callable[[int], None]) -> None:
        self._board = board
        self._refused = refused
        self._seen = -1
        self._families: dict[str, dict[str, SampleFamily]] = {}
        self._sheets: dict[str, tuple[str, Sheet]] = {}
        self._said: dict[str, set[str]] = {}

    def show(self, plugin: str, name: str, family: SampleFamily) -> None:
        """From now on samples called *name* of probes of *plugin* belong to *family*."""
        self._families.setdefault(plugin, {})[name] = family
        self._start_over(plugin)

    def hide(self, family: SampleFamily) -> None:
        """From now on samples of *family* are refused."""
        for plugin, families in self._families.items():
            for name in [name for name, shown in families.items() if shown is family]:
                del families[name]
                self._start_over(plugin)

    def refresh(self) -> None:
        """Take over what has changed on the board."""
        if self._board.version == self._seen:
            return
        self._seen = self._board.version
        entries = list(self._board)
        for probe in self._sheets.keys() - {entry.probe for entry in entries}:
            self.forget(probe)
        for entry in entries:
            self._report(entry.probe, self._sheet(entry).take(entry.reading))

    def forget(self, probe: str) -> None:
        """Take the samples of *probe* off the page."""
        _, sheet = self._sheets.pop(probe, (None, None))
        self._said.pop(probe, None)
        self._seen = -1
        if sheet is not None:
            sheet.clear()

    def _sheet(self, entry: Entry) -> Sheet:
        plugin, sheet = self._sheets.get(entry.probe, (None, None))
        if sheet is None or plugin != entry.plugin:
            if sheet is not None:
                sheet.clear()
            sheet = Sheet(entry.probe, self._families.setdefault(entry.plugin, {}))
            self._sheets[entry.probe] = (entry.plugin, sheet)
        return sheet

    def _start_over(self, plugin: str) -> None:
        for probe in [probe for probe, (of, _) in self._sheets.items() if of == plugin]:
            self.forget(probe)
        self._seen = -1

    def _report(self, probe: str, refused: list[str]) -> None:
        """Count each refusal and log a kind once, until the probe has been without it."""
        if refused:
            self._refused(len(refused))
        said, causes = self._said.get(probe, set()), set(refused)
        for cause in sorted(causes - said)[:3]:  # the rest is more of the same: a monitor fills no journal
            _log.warning("sample_refused", extra={"probe": probe, "cause": cause, "refused": len(refused)})
        self._said[probe] = causes


def _sound(samples: Sequence[Sample]) -> tuple[Sequence[Sample], list[str]]:
    """The *samples* that are samples, up to the limit."""
    refused = []
    if (over := len(samples) - SAMPLES_PER_READING) > 0:
        refused += [f"more than {SAMPLES_PER_READING} samples in one reading"] * over
        samples = samples[:SAMPLES_PER_READING]
    if not set(map(type, samples)) <= {Sample}:
        refused += [
            f"a {type(sample).__name__} is not a sample" for sample in samples if type(sample) is not Sample
        ]
        samples = [sample for sample in samples if type(sample) is Sample]
    return samples, refused


def _numbers(samples: Iterable[Sample]) -> Sequence[float | None]:
    """The values, None for what is not a number."""
    values = tuple(map(_VALUE, samples))
    return values if set(map(type, values)) <= {float} else tuple(map(as_number, values))
