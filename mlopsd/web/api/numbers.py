"""The few numbers that stand for a probe in one line: over the rows of its table, and of its predictions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from mlopsd.trends import Cell, PredictorFigures, cells
from mlopsd.web.api.schemas import NumberAnswer

if TYPE_CHECKING:
    from mlopsd.entry import Entry
    from mlopsd.trends import Traffic, Trends

HOTTEST = frozenset({"celsius"})  # units whose largest value counts
SHARES = frozenset({"ratio"})  # units whose mean counts; of all others the sum does


def numbers_of(entry: Entry, trends: Trends, traffic: Traffic) -> list[NumberAnswer]:
    """Return the numbers of the reading of *entry*; empty for a probe without a table and predictions."""
    numbers = [*_of_table(entry, trends)]
    figures = traffic.figures(entry.probe)
    return numbers if figures is None else [*numbers, *_of_predictions(figures)]


def _of_table(entry: Entry, trends: Trends) -> Iterator[NumberAnswer]:
    table = trends.table(entry.probe)
    if table is None:
        return
    rows = cells(table, entry.reading.samples).values()
    for column in table.columns:
        found = [row[column.title] for row in rows if column.title in row]
        if found:
            yield _joined(column.title, column.metric.unit or "", found)


def _joined(title: str, unit: str, found: Sequence[Cell]) -> NumberAnswer:
    """Return one number for the column *title*, which has the cells *found*."""
    values = [cell.value for cell in found]
    limits = [cell.limit for cell in found if cell.limit is not None]
    if unit in HOTTEST:
        return NumberAnswer(title=title, value=max(values), unit=unit)
    if unit in SHARES:
        return NumberAnswer(title=title, value=sum(values) / len(values), unit=unit)
    number = NumberAnswer(title=title, value=sum(values), unit=unit)
    if len(limits) == len(values):
        number["limit"] = sum(limits)
    return number


def _of_predictions(figures: PredictorFigures) -> Iterator[NumberAnswer]:
    yield NumberAnswer(title="Requests", value=figures.rate, unit="/s")
    if figures.p99 is not None:
        yield NumberAnswer(title="p99", value=figures.p99, unit="seconds")
    yield NumberAnswer(title="Errors", value=figures.errors, unit="")
