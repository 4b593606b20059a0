"""The series of probes that a scrape of the daemon would show, read from its own page."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlopsd.config.probes import ProbeConfig
from mlopsd.metrics.families import Family, family_of
from mlopsd.metrics.registry import Metrics

LINE = re.compile(r"(\w+)\{(.*)\} (\S+)")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
ESCAPE = re.compile(r"\\(.)")
NOT_FINITE = frozenset({"NaN", "+Inf", "-Inf"})


@dataclass(frozen=True, slots=True)
class ScrapedSeries:
    """One series as scraped.

    Attributes:
        line: The line of the page.
        family: The family.
    """

    line: str
    family: Family

    @property
    def json(self) -> dict[str, Any]:
        """Return the series as JSON. A value that JSON cannot write is text: ``NaN``, ``+Inf``, ``-Inf``."""
        name, labels, value = LINE.fullmatch(self.line).groups()  # type: ignore[union-attr]  # we wrote the line
        return {
            "name": name,
            "labels": {label: ESCAPE.sub(_unescape, text) for label, text in LABEL.findall(labels)},
            "value": value if value in NOT_FINITE else float(value),
            "kind": self.family.kind,
            "unit": self.unit,
        }

    @property
    def text(self) -> str:
        """Return the line, with the unit as a comment."""
        return f"{self.line}  # {self.unit}" if self.unit else self.line

    @property
    def unit(self) -> str:
        """Return the unit of the value, or "": the buckets and the count of a histogram have none."""
        counts = ("_bucket{", "_count{")
        return (
            "" if self.line.startswith(tuple(self.family.name + end for end in counts)) else self.family.unit
        )


def read_series(metrics: Metrics, probes: Sequence[ProbeConfig]) -> Mapping[str, Sequence[ScrapedSeries]]:
    """Return the series of each of *probes*, by its name."""
    metrics.render()  # takes over the readings
    page = {family.name: text for family, text in metrics.texts()}
    return {probe.name: list(_series_of(probe, page)) for probe in probes}


def _series_of(probe: ProbeConfig, page: Mapping[str, str]) -> Iterator[ScrapedSeries]:
    for metric in probe.probe.declares(probe.options):
        family = family_of(probe.plugin.name, metric)
        for line in page.get(family.name, "").splitlines():
            if f'{{probe="{probe.name}"' in line:
                yield ScrapedSeries(line, family)


def _unescape(found: re.Match[str]) -> str:
    return "\n" if found[1] == "n" else found[1]
