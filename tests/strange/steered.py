"""A probe that says what a file says; imported by name."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from mlopsd.probe import Advice, Finding, Options, Probe, Reading, Schedule, Status


class SteeredOptions(Options):
    """*path* is the JSON that it reads at each check: "findings", "facts", "status", "summary"."""

    path: Path


class Steered(Probe[SteeredOptions]):
    """In the text "{now+90}" a number of seconds from now is put in as a moment."""

    Options = SteeredOptions
    schedule = Schedule(interval=0.2, timeout=5, fail_after=1, recover_after=1, critical=True)

    async def check(self) -> Reading:
        reported = json.loads(self.options.path.read_text("utf-8"), object_hook=_moments)
        status = reported.get("status")
        return Reading(
            findings=[_finding(**finding) for finding in reported.get("findings", ())],
            facts=reported.get("facts", {}),
            status=Status[status.upper()] if status else None,  # type: ignore[arg-type]  # as if left out
            summary=reported.get("summary", ""),
        )


def _finding(
    name: str,
    status: str,
    summary: str,
    subject: str | None = None,
    advice: str = "none",
    *,
    lasting: bool = False,
) -> Finding:
    todo = Advice[advice.upper()]
    return Finding(name, Status[status.upper()], summary, subject, advice=todo, lasting=lasting)


def _moments(table: dict[str, Any]) -> dict[str, Any]:
    return {key: _moment(value) for key, value in table.items()}


def _moment(value: object) -> object:
    if not (isinstance(value, str) and value.startswith("{now") and value.endswith("}")):
        return value
    return (datetime.now(UTC) + timedelta(seconds=float(value[4:-1]))).isoformat()
