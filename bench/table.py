"""Figures in columns, as they are printed."""

from collections.abc import Sequence
from dataclasses import dataclass

from bench.figures import Spread, rounded

MARKS = {True: "met", False: "MISSED", None: ""}


@dataclass(frozen=True, slots=True)
class Row:
    """One figure, and what it ought to be."""

    what: str
    figure: str
    goal: str = ""
    met: bool | None = None

    @property
    def cells(self) -> tuple[str, ...]:
        """As text."""
        return (self.what, self.figure, self.goal, MARKS[self.met])


@dataclass(frozen=True, slots=True)
class ResultTable:
    """Lines of cells below a title and a head."""

    title: str
    head: Sequence[str]
    lines: Sequence[Sequence[str]]

    def __str__(self) -> str:
        lines = [self.head, *self.lines]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.head))]
        text = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
        return "\n".join([self.title, text[0], "  ".join("-" * width for width in widths), *text[1:]])


def of_rows(title: str, rows: Sequence[Row]) -> ResultTable:
    """*rows* as a table."""
    return ResultTable(title, ("what", "min / median / max", "goal", ""), [row.cells for row in rows])


def at_most(what: str, figure: Spread, goal: float | None = None) -> Row:
    """*figure* with the *goal* that its median must not exceed."""
    if goal is None:
        return Row(what, str(figure))
    return Row(what, str(figure), f"≤ {rounded(goal)} {figure.unit}".rstrip(), figure.middle <= goal)


def at_least(what: str, figure: Spread, goal: float) -> Row:
    """*figure* with the *goal* that its median must not miss."""
    return Row(what, str(figure), f"≥ {rounded(goal)} {figure.unit}".rstrip(), figure.middle >= goal)
