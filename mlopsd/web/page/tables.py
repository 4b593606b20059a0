"""The tables of the status page: a row for each subject of a probe, and a row for each model."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mlopsd.entry import Entry
from mlopsd.format import format_duration, format_quantity
from mlopsd.predictor import VersionFacts
from mlopsd.probe import Column, Finding, Status, SubjectTable
from mlopsd.trends import MOST_ROWS, Cell, PredictorFigures, Trends, cells, drawn
from mlopsd.web.jsonable import jsonable

TALL, MARGIN = 200, 10  # units of a sparkline, and of its margin above and below
MOST_LISTED = 3  # values of a fact in one cell
DIGITS = re.compile(r"(\d+)")


@dataclass(frozen=True, slots=True)
class Spark:
    """A sparkline: its path, and the same as text."""

    path: str
    caption: str


@dataclass(frozen=True, slots=True)
class NumberCell:
    """A number of a row.

    Attributes:
        text: The number with its unit; "" if it is not known.
        share: The share of the limit for a bar, 0 to 1; None without one.
        spark: The last half hour; None without one.
        limit: The limit with its unit; "" without one.
    """

    title: str
    text: str
    share: float | None = None
    spark: Spark | None = None
    limit: str = ""


@dataclass(frozen=True, slots=True)
class TableRow:
    """A row for one subject.

    Attributes:
        name: The subject: ``gpu 2``.
        status: The worst status of its findings; None without findings.
        texts: The headings and texts of its facts.
        numbers: Its numbers, in the order of the columns.
        badges: Its findings that are not healthy, worst first.
    """

    name: str
    status: Status | None
    texts: Sequence[tuple[str, str]]
    numbers: Sequence[NumberCell]
    badges: Sequence[Finding]


@dataclass(frozen=True, slots=True)
class ShownTable:
    """The table of a probe, and the number of the rows that it leaves out."""

    probe: str
    label: str
    texts: Sequence[str]
    titles: Sequence[str]
    rows: Sequence[TableRow]
    left_out: int


def shown_table(entry: Entry, trends: Trends) -> ShownTable | None:
    """Return the table of the probe of *entry*, or None without one or without a row."""
    table = trends.table(entry.probe)
    if table is None:
        return None
    content = TableContent(entry, table, trends)
    if not content.rows:
        return None
    return ShownTable(
        probe=entry.probe,
        label=_plain(table.label),
        texts=list(content.texts.values()),
        titles=[_plain(column.title) for column in table.columns],
        rows=[content.row(row) for row in content.rows[:MOST_ROWS]],
        left_out=max(len(content.rows) - MOST_ROWS, 0),
    )


class TableContent:
    """The numbers, findings and facts of a reading, by row.

    Attributes:
        rows: The names of the rows.
        texts: The headings of the facts that some row has, by key.
    """

    def __init__(self, entry: Entry, table: SubjectTable, trends: Trends) -> None:
        self._probe, self._table, self._trends = entry.probe, table, trends
        self._numbers = cells(table, entry.reading.samples)
        self._findings = _findings(table.label, entry.reading.findings, self._numbers)
        self._facts = _facts(table, entry.facts)
        self.rows = sorted(self._numbers.keys() | self._findings.keys(), key=_natural)
        keys = set().union(*self._facts.values())
        self.texts = {key: _plain(title) for key, title in table.texts.items() if key in keys}

    def row(self, name: str) -> TableRow:
        """Return the row *name*."""
        findings, facts = self._findings.get(name, []), self._facts.get(name, {})
        numbers = self._numbers.get(name, {})
        return TableRow(
            name=f"{_plain(self._table.label)} {_plain(name)}",
            status=max((one.status for one in findings), default=None),
            texts=[(title, _fact_text(facts.get(key))) for key, title in self.texts.items()],
            numbers=[self._number(column, numbers.get(column.title), name) for column in self._table.columns],
            badges=_badges(findings),
        )

    def _number(self, column: Column, cell: Cell | None, row: str) -> NumberCell:
        title, unit = _plain(column.title), column.metric.unit
        if cell is None:
            return NumberCell(title, "")
        points = self._trends.points(self._probe, row, column.title) if column.has_trend else ()
        full = cell.limit if cell.limit is not None else 1.0 if unit == "ratio" else None
        limit = "" if cell.limit is None else format_quantity(cell.limit, unit)
        share = None if not full or full < 0 else min(max(cell.value / full, 0.0), 1.0)
        return NumberCell(title, format_quantity(cell.value, unit), share, spark(points, unit, full), limit)


def _findings(
    label: str, findings: Iterable[Finding], numbers: Mapping[str, Any]
) -> dict[str, list[Finding]]:
    """Return the findings by row: those with the subject ``gpu 2``, and those with ``2`` if that is a row."""
    rows: dict[str, list[Finding]] = {}
    for finding in findings:
        subject = str.__str__(finding.subject) if isinstance(finding.subject, str) else ""
        row = subject.removeprefix(f"{label} ")
        if row and (row != subject or row in numbers):
            rows.setdefault(row, []).append(finding)
    return rows


def _badges(findings: Iterable[Finding]) -> list[Finding]:
    unwell = [plain_finding(finding) for finding in findings if finding.status is not Status.HEALTHY]
    return sorted(unwell, key=lambda finding: (-finding.status, -finding.advice))


def plain_finding(finding: Finding) -> Finding:
    """Return *finding* with plain texts, none of which is marked as safe HTML."""
    subject = str.__str__(finding.subject) if finding.subject is not None else None
    return replace(
        finding, name=str.__str__(finding.name), subject=subject, summary=str.__str__(finding.summary)
    )


def badge_text(finding: Finding) -> str:
    """Return the name of *finding*, and its number if that has no unit: ``xid 79``."""
    name = finding.name.replace("_", " ")
    is_code = finding.unit is None and type(finding.observed) is int
    return f"{name} {finding.observed}" if is_code else name


def _natural(row: str) -> list[tuple[int, str]]:
    """Return a key that sorts ``10`` after ``9``."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in DIGITS.split(row)]


def _facts(table: SubjectTable, facts: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the mappings in the table's fact by row."""
    listed = facts.get(table.fact) if table.fact else None
    found = listed if isinstance(listed, list | tuple) else ()
    return {_plain(one.get(table.key)): one for one in found if isinstance(one, Mapping)}


def _fact_text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, list | tuple):
        more = f" and {len(value) - MOST_LISTED} more" if len(value) > MOST_LISTED else ""
        return ", ".join(map(_plain, value[:MOST_LISTED])) + more
    return _plain(value)


def _plain(value: object) -> str:
    """Return *value* as plain text, which is not marked as safe HTML."""
    return str.__str__(value) if isinstance(value, str) else str(jsonable(value))


def spark(points: Sequence[float], unit: str, full: float | None = None) -> Spark | None:
    """Return the sparkline of *points* from 0 to *full*, else to the largest; None without a point."""
    known = [point for point in points if not math.isnan(point)]
    if not known:
        return None
    bottom, scale = TALL - MARGIN, (TALL - 2 * MARGIN) / max(*known, full or 0.0, 1e-9)
    paths = []
    for run in drawn(points):
        places = [f"{place} {int(bottom - value * scale)}" for place, value in run]
        paths.append("M" + "L".join(places if len(places) > 1 else places * 2))
    lowest, highest = (format_quantity(value, unit) for value in (min(known), max(known)))
    return Spark("".join(paths), f"last 30 min: {lowest} to {highest}")


@dataclass(frozen=True, slots=True)
class ModelRow:
    """The row of a probe that predicts.

    Attributes:
        entry: The probe's entry.
        versions: The facts about its versions.
        numbers: The requests per second, the errors, and the durations.
    """

    entry: Entry
    versions: VersionFacts
    numbers: Sequence[NumberCell]


def model_row(entry: Entry, figures: PredictorFigures) -> ModelRow:
    """Return the row of the probe of *entry*, whose predictions are *figures*."""
    trends = figures.trends
    rate, errors = f"{figures.rate:.3g} /s", str(figures.errors)
    numbers = [
        NumberCell("Requests", rate, None, spark(trends["rate"], "/s")),
        NumberCell("Errors", errors, None, spark(trends["errors"], "")),
        *(
            NumberCell(title, _seconds(value), None, spark(trends[title], "seconds"))
            for title, value in (("p50", figures.p50), ("p99", figures.p99))
        ),
    ]
    return ModelRow(entry, VersionFacts.read(entry.facts), numbers)


def _seconds(value: float | None) -> str:
    return "" if value is None else format_duration(float(f"{value:.2g}"))
