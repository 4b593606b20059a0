"""A host with pretended GPUs: the probe over the fake driver library."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.gpu.driving import Drive, Driven, library


@pytest.fixture
async def drive(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Drive]:
    """Starts the probe on a host of healthy cards with some lines that make it another."""
    monkeypatch.setenv("LD_LIBRARY_PATH", str(library(tmp_path_factory)))
    monkeypatch.setenv("FAKE_NVML_SCENARIO", str(tmp_path / "host.scenario"))
    started: list[Driven] = []

    def start(*lines: str, cards: int = 2, **table: Any) -> Driven:
        started.append(Driven(tmp_path, *lines, cards=cards, **table))
        return started[-1]

    yield start
    for driven in started:
        await driven.close()
