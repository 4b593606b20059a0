"""Our formatter behind aioprometheus' interface: its own escapes nothing and speaks no OpenMetrics."""

from typing import Any

from aioprometheus.collectors import Collector, Registry
from aioprometheus.formats.base import IFormatter

from mlopsd.metrics.exposition import Dialect, bound_text, number_text, series_text
from mlopsd.metrics.family import Family, Written

Labels = dict[str, str]


class Formatter(IFormatter):
    """Writes collectors in one dialect; a `Written` one says its lines itself."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        self._headers: dict[Family, str] = {}

    def get_headers(self) -> dict[str, str]:
        """The Content-Type of what `marshall` returns."""
        return {"Content-Type": self.dialect.value}

    def marshall(self, registry: Registry) -> bytes:
        """Every family of *registry* that has a series, and OpenMetrics' end."""
        families = "".join(self.marshall_collector(collector) for collector in registry.get_all())
        return (families + self.end).encode()

    @property
    def end(self) -> str:
        """What stands after the last family."""
        return "# EOF\n" if self.dialect is Dialect.OPENMETRICS else ""

    def marshall_collector(self, collector: Collector) -> str:
        """The family of *collector* with its header; nothing if it has no series."""
        if isinstance(collector, Written):
            text = collector.text()
            return self._header(collector.family) + text if text else ""
        return self._marshall_plain(collector)

    def _header(self, family: Family) -> str:
        if (header := self._headers.get(family)) is None:
            header = self._headers[family] = family.header(self.dialect)
        return header

    def _marshall_plain(self, collector: Collector) -> str:
        """A collector of aioprometheus as it comes.

        Raises:
            TypeError: a Summary (its quantiles are wrong by up to twice), or an untyped collector.
        """
        kind = collector.kind.name
        forms = {
            "counter": self._format_counter,
            "gauge": self._format_gauge,
            "histogram": self._format_histogram,
        }
        if kind not in forms:
            raise TypeError(f"cannot show {collector.name}: a {kind} is not shown; use a histogram")
        shown = collector.get_all()
        lines = [line for one in shown for line in forms[kind](one, collector.name, collector.const_labels)]
        header = Family(collector.name, collector.doc, kind).header(self.dialect)  # type: ignore[arg-type]
        return header + "".join(f"{line}\n" for line in lines) if lines else ""

    def _format_counter(self, counter: tuple[Labels, Any], name: str, const_labels: Labels) -> list[str]:
        labels, value = counter
        series = series_text(name, {**const_labels, **labels}.items())
        return [f"{series} {number_text(float(value))}"]

    def _format_gauge(self, gauge: tuple[Labels, Any], name: str, const_labels: Labels) -> list[str]:
        return self._format_counter(gauge, name, const_labels)

    def _format_summary(self, summary: object, name: str, const_labels: Labels) -> list[str]:
        raise TypeError(f"cannot show {name}: a summary is not shown; use a histogram")

    def _format_histogram(self, histogram: tuple[Labels, Any], name: str, const_labels: Labels) -> list[str]:
        labels, parts = histogram
        lines = []
        for part, value in parts.items():
            if isinstance(part, float):
                one = ({**labels, "le": bound_text(part)}, value)
                lines += self._format_counter(one, f"{name}_bucket", const_labels)
            else:
                lines += self._format_counter((labels, value), f"{name}_{part}", const_labels)
        return lines
