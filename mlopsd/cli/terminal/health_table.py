"""The health of a host for people: the verdict, a line a probe, and beneath it what is not healthy."""

import textwrap
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from mlopsd.cli.terminal.text import duration, harmless, painted

AGE_COLUMN = 7  # "12 min" and a space
STATUS_COLUMN = 11  # "unhealthy" and two
Document = Mapping[str, Any]


def table(health: Document, *, width: int, coloured: bool, now: datetime | None = None) -> str:
    """*health* (the answer of ``/health/detailed``) in lines of at most *width* columns."""
    lines = [*_verdict(health, width, now or datetime.now(UTC), coloured=coloured), ""]
    probes = health["probes"]
    name_column = max((len(name) for name in ("PROBE", *probes)), default=0) + 2
    lines.append(_row("PROBE", "STATUS", "AGE", name_column) + "SUMMARY")
    for name, reading in probes.items():
        lines += _probe(name, reading, name_column, width, coloured=coloured)
    return "\n".join(lines)


def _verdict(health: Document, width: int, now: datetime, *, coloured: bool) -> Iterator[str]:
    status = harmless(health["status"])
    parts = [painted(status, status, coloured=coloured), _since(health, now)]
    if (advice := health.get("advice", "none")) != "none":
        parts.append(f"advice: {harmless(advice)}")
    if "host" in health:
        parts.append(f"{harmless(health['host'])}, mlopsd {harmless(health.get('version', ''))}")
    yield "  ".join(parts)
    yield from textwrap.wrap(_beyond_the_probes(health), width)


def _beyond_the_probes(health: Document) -> str:
    """The summary without what the lines of the probes say again."""
    said = harmless(health.get("summary", ""))
    for name, reading in health["probes"].items():
        said = said.replace(harmless(f"{name} {reading['status']}: {reading.get('summary', '')}"), "")
    return "; ".join(part for part in said.split("; ") if part)


def _since(health: Document, now: datetime) -> str:
    try:
        since = datetime.fromisoformat(health["since"])
        return f"for {duration(max((now - since).total_seconds(), 0))}"
    except (KeyError, TypeError, ValueError):  # an older or a newer daemon
        return ""


def _probe(name: str, reading: Document, name_column: int, width: int, *, coloured: bool) -> Iterator[str]:
    status, age = harmless(reading["status"]), reading.get("age_seconds")
    row = _row(harmless(name), status, "-" if age is None else duration(age), name_column)
    first, *more = _wrapped(reading.get("summary", ""), len(row), width)
    yield row.replace(status, painted(status, status, coloured=coloured), 1) + first.lstrip()
    yield from more
    unwell = [finding for finding in reading.get("findings", ()) if finding["status"] != "healthy"]
    for finding in unwell:
        yield from _finding(finding, reading, width, coloured=coloured)


def _finding(finding: Document, reading: Document, width: int, *, coloured: bool) -> Iterator[str]:
    """Beneath the probe: what, and what to do; the summary unless the probe's line has it."""
    status, advice = harmless(finding["status"]), finding.get("advice", "none")
    named = harmless(" ".join(filter(None, (finding["name"], finding.get("subject")))))
    told = "" if finding["summary"] in str(reading.get("summary")) else f": {finding['summary']}"
    todo = f" (advice: {advice})" if advice != "none" else ""
    first, *more = textwrap.wrap(
        harmless(f"- {status} {named}{told}{todo}"), width, initial_indent="  ", subsequent_indent="    "
    )
    yield first.replace(status, painted(status, status, coloured=coloured), 1)
    yield from more


def _row(name: str, status: str, age: str, name_column: int) -> str:
    return f"{name:{name_column}}{status:{STATUS_COLUMN}}{age:{AGE_COLUMN}}"


def _wrapped(text: object, indent: int, width: int) -> list[str]:
    """*text* in lines that start at column *indent*; at least one."""
    pad = " " * indent
    return textwrap.wrap(harmless(text), width, initial_indent=pad, subsequent_indent=pad) or [pad]
