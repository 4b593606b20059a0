"""The trial at 3 a.m.: what `mlopsd status` shows for each fault, against the reviewed golden file."""

import json
import re
import tomllib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from mlopsd.board import Board
from mlopsd.cli.terminal.health_table import TableStyle, format_health
from mlopsd.entry import Terms
from mlopsd.probe import Reading
from mlopsd.web.api.readings import ReadingDocuments

GOLDEN: dict[str, dict[str, Any]] = tomllib.loads(Path(__file__).with_name("golden.toml").read_text("utf-8"))
PLACEHOLDERS = (
    (r"\b\d+(\.\d+)?(e[+-]\d+)? ?(bytes|kB|MB|GB|TB)\b(?! HBM)", "SIZE"),
    (r"\b\d+(\.\d+)? ?%", "RATIO"),
    (r"\b\d+(\.\d+)? (ms|s|min|h|d)\b", "AGE"),
    (r"\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", "TIME"),
    (r"\b\d+ checks\b", "N checks"),
    (r"(/[\w.-]+)*/pytest-[\w./-]*?(?=/(small|rw)\b)", "TMP"),
)  # for what is another number on each run


def shown(health: dict[str, Any], probe: str) -> dict[str, str]:
    """Return the first line of ``mlopsd status``, and the row of *probe* with its findings."""
    known = {**health, "host": "host", "version": "1"}
    style = TableStyle(10_000, coloured=False)
    first = format_health(known, style).splitlines()[0]
    lines = format_health(known, replace(style, shows_since=False)).splitlines()
    row = next(place for place, line in enumerate(lines) if line.startswith(f"{probe} "))
    findings = []
    for line in lines[row + 1 :]:
        if not line.startswith("  - "):
            break
        findings.append(line.strip())
    _, status, text = lines[row].split(maxsplit=2)
    return {
        "first": plain(first.removesuffix("  host, mlopsd 1")),
        "row": plain(f"{status}: {text}"),
        "findings": plain("\n".join(findings)),
    }


def plain(text: str) -> str:
    """Return *text* with a placeholder for each number that varies."""
    for pattern, placeholder in PLACEHOLDERS:
        text = re.sub(pattern, placeholder, text)
    return text


def compare(case: str, health: dict[str, Any], probe: str) -> None:
    """Compare what *health* shows with *case* of the golden file; it may have more keys, as for the log."""
    found = shown(health, probe)
    found["findings"] = found["findings"].strip()
    golden = {key: str(text).strip() for key, text in GOLDEN[case].items() if key in found}
    assert found == golden, f"\n{as_toml(case, found)}"


def as_toml(case: str, found: dict[str, str]) -> str:
    """Return the entry of the golden file, to be reviewed and pasted."""
    return "\n".join(
        [
            f'["{case}"]',
            f"first = {json.dumps(found['first'], ensure_ascii=False)}",
            f"row = {json.dumps(found['row'], ensure_ascii=False)}",
            f'findings = """\n{found["findings"]}\n"""',
        ]
    )


def health_of(probe: str, terms: Terms, readings: Iterable[Reading]) -> dict[str, Any]:
    """Return ``/health/detailed`` of a host with one probe after *readings*."""
    board = Board()
    board.enrol(probe, probe, terms)
    for reading in readings:
        board.record(probe, reading, 0.1)
    health: dict[str, Any] = json.loads(ReadingDocuments(board, lambda _probe: None).detailed("host", "1"))
    board.close()
    return health
