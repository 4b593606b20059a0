"""Where the samples of one probe's readings stand: the text of their lines, with a gap for each value."""

import math
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeGuard, cast

from aioprometheus.collectors import Registry

from mlopsd.metrics.exposition import number_text, series_text
from mlopsd.metrics.family import Family, TextAlone
from mlopsd.probe import Sample

Labels = tuple[tuple[str, str], ...]


class SampleFamily(TextAlone):
    """A family whose samples come with the readings, as the collector that aioprometheus' registry holds."""

    def __init__(self, family: Family, registry: Registry) -> None:
        super().__init__(family, registry)
        self._texts: dict[str, str] = {}

    def text(self) -> str:
        """The lines of every probe."""
        return "".join(self._texts.values())

    def put(self, probe: str, text: str) -> None:
        """Show *text* as the lines of *probe*."""
        if self._texts.get(probe, "") == text:
            return
        if text:
            self._texts[probe] = text
        else:
            del self._texts[probe]
        self.mark.set()


@dataclass(frozen=True, slots=True)
class Block:
    """The lines of one probe in one family.

    Attributes:
        template: the lines, ``%s`` for each value.
        picks: for each line, which sample of the reading it shows.
    """

    family: SampleFamily
    template: str
    picks: "array[int]"

    def fill(self, values: Sequence[float | None]) -> tuple[str, list[str]]:
        """The lines with *values* in them, and a complaint for each line that had to be left out."""
        shown = tuple(map(values.__getitem__, self.picks))
        if not self._is_plain(shown):
            return self._fill_line_by_line(shown)
        return (self.template % shown).replace(".0\n", "\n"), []

    def _is_plain(self, values: tuple[float | None, ...]) -> bool:
        """Whether every one of *values* may be shown just as Python writes it; what is asked is cheap."""
        if None in values:
            return False
        numbers = cast("tuple[float, ...]", values)
        return all(map(math.isfinite, numbers)) and self._may_be(min(numbers))

    def _fill_line_by_line(self, values: Iterable[float | None]) -> tuple[str, list[str]]:
        lines, refused = [], []
        for line, value in zip(self.template.split("\n"), values, strict=False):  # text ends in a newline
            if self._may_be(value):
                lines.append(f"{line % number_text(value)}\n")
            else:
                refused.append(f"{self.family.name}: a value that no {self.family.family.kind} can have")
        return "".join(lines), refused

    def _may_be(self, value: float | None) -> TypeGuard[float]:
        """A counter is never negative and never NaN; OpenMetrics loses the whole page over it."""
        return value is not None and (value >= 0 or self.family.family.kind != "counter")


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the samples of one probe's readings stand, as long as they are the same series.

    Attributes:
        refused: what is wrong with the samples that have no place.
    """

    blocks: tuple[Block, ...]
    refused: tuple[str, ...]


class LayoutDraft:
    """Finds a place for each sample of one reading."""

    def __init__(self, probe: str, families: Mapping[str, SampleFamily]) -> None:
        self._families = families
        self._probe = probe
        # families share labels, and escaping is dear
        self._written: dict[tuple[Labels, tuple[str, ...]], str] = {}
        self._places: dict[str, dict[str, int]] = {}
        self._refused: list[str] = []

    def layout(self, samples: Sequence[Sample]) -> Layout:
        """The layout of *samples*; of two with one identity the last has the place."""
        for place, sample in enumerate(samples):
            try:
                self._place(place, sample)
            except (TypeError, ValueError) as error:
                self._refused.append(f"{sample.name}: {error}")
        blocks = (self._block(name, places) for name, places in self._places.items())
        return Layout(tuple(blocks), tuple(self._refused))

    def _place(self, place: int, sample: Sample) -> None:
        if (family := self._families.get(sample.name)) is None:
            raise ValueError("the probe declares no such sample")
        names = family.family.labels
        if (labels := self._written.get((sample.labels, names))) is None:
            labels = self._written[sample.labels, names] = self._write(names[1:], sample.labels)
        places = self._places.setdefault(sample.name, {})
        places[labels] = place

    def _write(self, declared: tuple[str, ...], labels: Labels) -> str:
        given = dict(labels)
        if len(labels) != len(declared) or given.keys() != set(declared):
            raise ValueError(f"it has the labels {declared}, not {tuple(given)}")
        values = (self._probe, *(str(given[label]) for label in declared))
        return series_text("", zip(("probe", *declared), values, strict=True))

    def _block(self, name: str, places: Mapping[str, int]) -> Block:
        family = self._families[name]
        template = "".join(f"{family.name}{labels.replace('%', '%%')} %s\n" for labels in places)
        return Block(family, template, array("I", places.values()))
