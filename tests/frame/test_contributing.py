"""What the pages for contributors name is there, and their links lead somewhere."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = pytest.mark.parametrize("name", ["CONTRIBUTING.md", "SECURITY.md"])
NAMED = re.compile(r"`((?:bench|chaos|deploy|docs|mlopsd|probes|tests|\.ci)/[\w./-]*)`")


@PAGES
def test_links_and_files_are_there(name: str) -> None:
    text = (ROOT / name).read_text("utf-8")
    named = [*re.findall(r"\]\((?!https?:)([^)#]+)", text), *NAMED.findall(text)]
    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_the_table_of_targets_is_that_of_the_makefile() -> None:
    rows = re.findall(r"^\| (`make .*?) \|", (ROOT / "CONTRIBUTING.md").read_text("utf-8"), re.MULTILINE)
    named = {target for row in rows for target in re.findall(r"`make ([a-z]+)`", row)}
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert named - targets == set()
    assert targets - named <= {"docs"}


def test_the_groups_and_extras_of_its_commands_are_those_of_the_project() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    tables = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    (extras,) = re.findall(r"--editable '\.\[([a-z,]+)\]'", text)
    assert set(extras.split(",")) <= set(tables["project"]["optional-dependencies"])
    assert set(re.findall(r"--group ([a-z]+)", text)) <= set(tables["dependency-groups"])
    assert {group for group in tables["dependency-groups"] if f"`{group}`" not in text} <= {"docs"}
    assert f"--editable '.[{extras}]' --group dev" in (ROOT / "Makefile").read_text("utf-8")
