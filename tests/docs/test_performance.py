"""The page of figures names only what the benchmark prints, and each of its parts."""

import ast
import re
from collections.abc import Iterator

import pytest

from bench.__main__ import SECTIONS
from tests.docs.test_docs import ROOT

PAGE = (ROOT / "docs/internals/performance.md").read_text("utf-8")
PARTS = re.split(r"^## .*\n`python -m bench (\w+)`", PAGE, flags=re.MULTILINE)
BY_PART = dict(zip(PARTS[1::2], PARTS[2::2], strict=True))
HEAD = re.compile(r"^\| figure \|.*\n\|[- |]+\n((?:\|.*\n)+)", re.MULTILINE)
PLACEHOLDER = re.compile(r"\{[^{}]*\}")


def figures(text: str) -> Iterator[str]:
    """Yield the first cell of each row of the tables of figures in *text*."""
    for rows in HEAD.findall(text):
        yield from (row.split("|")[1].strip() for row in rows.splitlines())


def labels(name: str) -> Iterator[re.Pattern[str]]:
    """Yield a pattern for each text in the module of the section *name*."""
    source = (ROOT / f"{SECTIONS[name].run.__module__.replace('.', '/')}.py").read_text("utf-8")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            parts = [str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values]
            if len(PLACEHOLDER.sub("", "".join(parts))) > 3:  # else it fits everything
                yield re.compile("".join(".+" if part == "{}" else re.escape(part) for part in parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield re.compile(re.escape(node.value))


def test_every_part_of_the_benchmark_has_a_section() -> None:
    assert sorted(BY_PART) == sorted(SECTIONS)


@pytest.mark.parametrize("name", sorted(SECTIONS))
def test_the_benchmark_prints_every_figure_of_the_page(name: str) -> None:
    printed = list(labels(name))
    named = list(figures(BY_PART[name]))
    assert named
    assert [figure for figure in named if not any(label.fullmatch(figure) for label in printed)] == []


def test_every_missed_goal_names_its_part_and_its_figure() -> None:
    (rows,) = HEAD.findall(PARTS[0])
    missed = [[cell.strip() for cell in row.split("|")[1:3]] for row in rows.splitlines()]
    assert missed
    for figure, part in missed:
        assert any(label.fullmatch(figure) for label in labels(part.strip("`"))), figure
