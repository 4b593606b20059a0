"""What several tests stand on."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
STRANGE = HERE / "strange"


@pytest.fixture
def strange_path(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The misbehaving probes are importable, here and in processes that are started from here."""
    monkeypatch.syspath_prepend(str(STRANGE))
    known = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", f"{STRANGE}{os.pathsep}{known}" if known else str(STRANGE))
    yield STRANGE
