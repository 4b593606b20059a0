"""Fixtures of the tests of the system probe: a context, folders like /proc and /sys, and its page."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from mlopsd.probe import Context, Metric
from tests.documented import Row, tables

PAGE = Path(__file__).parents[2] / "docs/reference/probes/system.md"


class NoInstruments:
    """Hands out nothing: this probe counts nothing between its checks."""

    def counter(self, metric: Metric) -> object:
        raise AssertionError(f"asked for the counter {metric.name}")

    def histogram(self, metric: Metric) -> object:
        raise AssertionError(f"asked for the histogram {metric.name}")


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context("system", tmp_path, logging.getLogger("test"), {}, NoInstruments())  # type: ignore[arg-type]


@pytest.fixture
def tree(tmp_path: Path) -> Callable[[Mapping[str, str]], Path]:
    """Writes files by their path below a folder, which it returns; again, it overwrites."""

    def write(files: Mapping[str, str]) -> Path:
        root = tmp_path / "tree"
        for name, text in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        return root

    return write


@pytest.fixture
def page() -> dict[str, list[Row]]:
    """The probe's page."""
    return tables(PAGE)
