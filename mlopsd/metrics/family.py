"""One family of the page: what its HELP, TYPE and UNIT lines say, and the names that it takes."""

import itertools
import re
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from aioprometheus.collectors import Collector, MetricsTypes, Registry

from mlopsd.metrics.exposition import Dialect, help_text
from mlopsd.probe import DEFAULT_BUCKETS, Metric, MetricKind

_SUFFIXES: dict[MetricKind, tuple[str, ...]] = {
    "gauge": ("",),
    "counter": ("", "_total", "_created"),
    "histogram": ("", "_bucket", "_count", "_sum", "_created"),
}


_changes = itertools.count(1)  # next() of it is one step, whichever thread takes it


class Mark:
    """Says by its *number* whether any of those that share it has changed; no number comes twice."""

    __slots__ = ("number",)

    def __init__(self) -> None:
        self.set()

    def set(self) -> None:
        """Something has changed; called after that, from any thread."""
        self.number = next(_changes)


@dataclass(frozen=True, slots=True)
class Family:
    """The declaration of one family under its full name.

    Attributes:
        name: as its samples are called; a counter's ends in ``_total``.
        help: one sentence; where it is empty there is no HELP line.
        labels: the label names of every series, in the order in which they are written.
        buckets: the upper bounds of a histogram, without infinity; the series of one probe may have
            bounds of their own, so that they tell no families apart.
    """

    name: str
    help: str
    kind: MetricKind = "gauge"
    unit: str = ""
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = field(default=DEFAULT_BUCKETS, compare=False)

    @property
    def base(self) -> str:
        """The family's name in OpenMetrics, where ``_total`` belongs to the sample alone."""
        return self.name.removesuffix("_total") if self.kind == "counter" else self.name

    @property
    def claims(self) -> tuple[str, ...]:
        """Every name that no other family may have; OpenMetrics reads them all as this family's."""
        return tuple(self.base + suffix for suffix in _SUFFIXES[self.kind])

    def header(self, dialect: Dialect) -> str:
        """The lines above the family's samples."""
        name = self.base if dialect is Dialect.OPENMETRICS else self.name
        said = f"# HELP {name} {help_text(self.help, dialect)}\n" if self.help else ""
        unit = f"# UNIT {name} {self.unit}\n" if dialect is Dialect.OPENMETRICS and self._bears_unit else ""
        return f"{said}# TYPE {name} {self.kind}\n{unit}"

    @property
    def _bears_unit(self) -> bool:
        return bool(self.unit) and self.base.endswith(f"_{self.unit}")


def family_of(plugin: str, metric: Metric) -> Family:
    """The family in which the probes of *plugin* report *metric*: each series with the label ``probe``."""
    prefix = re.sub(r"[^a-z0-9_]", "_", plugin.lower())
    return Family(
        name=f"mlopsd_{prefix}_{metric.name}",
        help=metric.help,
        kind=metric.kind,
        unit=metric.unit,
        labels=("probe", *metric.labels),
        buckets=metric.buckets if metric.kind == "histogram" else (),
    )


class Written(Collector):
    """A collector that keeps its samples as text and knows when that has changed.

    Attributes:
        mark: set whenever `text` would say something else; shared with the rest of a part of the page.
    """

    def __init__(self, family: Family, registry: Registry, **more: Sequence[float]) -> None:
        extra: dict[str, Any] = dict(more)  # what the kind of collector beside this class asks for
        super().__init__(family.name, family.help, registry=registry, **extra)
        self.kind = MetricsTypes[family.kind]
        self.family = family
        self.mark = Mark()

    def keep(self, labels: dict[str, str], value: float) -> None:
        """Put *value* into aioprometheus' books; the label names were checked with the declaration."""
        self.values[labels] = value

    def drop(self, labels: dict[str, str]) -> None:
        """Take one series out of aioprometheus' books, which has no other way to do it."""
        del self.values[labels]  # type: ignore[no-untyped-call]

    @abstractmethod
    def text(self) -> str:
        """The sample lines, each with its newline; no header."""


class TextAlone(Written):
    """A collector that has its text and no books: only our formatter can show it."""

    def get_all(self) -> NoReturn:
        """Not to be had.

        Raises:
            TypeError: always.
        """
        raise TypeError(f"{self.name} is kept as text alone: it takes our formatter to show it")
