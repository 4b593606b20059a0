"""The site has every page, in a place of its own, and reads pages as a repository shows them."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from markdown import markdown

from tests.docs import generated
from tests.docs.commonmark import separate
from tests.docs.test_docs import ROOT

SITE = ROOT / "mkdocs.yml"
DOCS = ROOT / "docs"


def entries(node: Any) -> Iterator[str]:
    """Yield the pages below *node* of the navigation."""
    if isinstance(node, str):
        yield node
    else:
        for child in node.values() if isinstance(node, dict) else node:
            yield from entries(child)


def test_every_page_has_one_place_in_the_navigation() -> None:
    pages = [str(path.relative_to(DOCS)) for path in DOCS.glob("**/*.md")]
    assert sorted(entries(yaml.safe_load(SITE.read_text("utf-8"))["nav"])) == sorted(pages)


@pytest.mark.parametrize("path", sorted(DOCS.glob("**/*.md")), ids=lambda path: path.name)
def test_no_link_leaves_the_site(path: Path) -> None:
    for target in re.findall(r"\]\((?![a-z]+:)([^)#]+)", path.read_text("utf-8")):
        assert (path.parent / target).resolve().is_relative_to(DOCS), target


def test_pictures_are_small() -> None:
    assert [path.name for path in DOCS.glob("images/*") if path.stat().st_size > 200_000] == []


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ("Two things:\n- one\n- two", "<ul>"),
        ("In order:\n1. one\n2. two", "<ol>"),
        ("A table:\n| a | b |\n| --- | --- |\n| 1 | 2 |", "<table>"),
        ("- one\n- two\n| a | b |\n| --- | --- |\n| 1 | 2 |", "<table>"),
        ("Run it:\n```sh\nls\n```\nIt ends.", "<p>It ends.</p>"),
        ("```text\n- no list\n```", "- no list"),
        ("```python file=a.py\n1\n```", "a.py"),
    ],
)
def test_a_block_needs_no_empty_line_before_it(text: str, tag: str) -> None:
    extensions = ["tests.docs.commonmark", "tables", "pymdownx.highlight", "pymdownx.superfences"]
    assert tag in markdown(text, extensions=extensions)


def test_a_list_and_what_belongs_to_its_items_stay_together() -> None:
    lines = ["A list:", "- one", "  and more", "- two", "", "The end."]
    assert separate(lines) == [lines[0], "", *lines[1:]]


@pytest.mark.parametrize(
    ("path", "text"), list(generated.written()), ids=lambda value: getattr(value, "name", "")
)
def test_the_tables_of_the_reference_are_those_of_the_code(path: Path, text: str) -> None:
    assert path.read_text("utf-8") == text, "run python -m tests.docs.generated"


def test_every_table_of_the_code_is_in_the_reference() -> None:
    text = "".join(text for _, text in generated.pages())
    assert set(generated.PART.findall(text)) == {(name, " -->\n") for name in generated.PARTS}
