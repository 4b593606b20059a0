"""The health of a host for people: the verdict, a line per probe, and its unhealthy findings."""

import textwrap
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from mlopsd.cli.terminal.text import paint, sanitize
from mlopsd.format import format_age
from mlopsd.probe import Advice, Status

AGE_COLUMN = 8  # "119 min" and a space
STATUS_COLUMN = 11  # "unhealthy" and two
Document = Mapping[str, Any]


def format_health(health: Document, *, width: int, coloured: bool, now: datetime | None = None) -> str:
    """Return *health* (the body of ``/health/detailed``) in lines of at most *width* columns."""
    lines = [*_format_verdict(health, width, now or datetime.now(UTC), coloured=coloured), ""]
    probes = health["probes"]
    name_column = max((len(name) for name in ("PROBE", *probes)), default=0) + 2
    lines.append(_format_row("PROBE", "STATUS", "AGE", name_column) + "SUMMARY")
    for name, reading in sorted(probes.items(), key=lambda probe: _rank(probe[1])):
        lines += _format_probe(name, reading, name_column, width, coloured=coloured)
    return "\n".join(lines)


def _format_verdict(health: Document, width: int, now: datetime, *, coloured: bool) -> Iterator[str]:
    status = sanitize(health["status"])
    parts = [paint(status, status, coloured=coloured), _format_since(health, now)]
    if (advice := health.get("advice", "none")) != "none":
        parts.append(f"advice: {sanitize(advice)}")
    if "host" in health:
        parts.append(f"{sanitize(health['host'])}, mlopsd {sanitize(health.get('version', ''))}")
    yield "  ".join(parts)
    yield from textwrap.wrap(_without_probes(health), width)


def _without_probes(health: Document) -> str:
    """Return the summary without the parts that the probes' lines repeat."""
    summary = sanitize(health.get("summary", ""))
    for name, reading in health["probes"].items():
        summary = summary.replace(sanitize(f"{name} {reading['status']}: {reading.get('summary', '')}"), "")
    return "; ".join(part for part in summary.split("; ") if part)


def _format_since(health: Document, now: datetime) -> str:
    try:
        since = datetime.fromisoformat(health["since"])
        return f"for {format_age((now - since).total_seconds())}"
    except (KeyError, TypeError, ValueError):  # an older or a newer daemon
        return ""


def _format_probe(
    name: str, reading: Document, name_column: int, width: int, *, coloured: bool
) -> Iterator[str]:
    status, age = sanitize(reading["status"]), reading.get("age_seconds")
    row = _format_row(sanitize(name), status, "-" if age is None else format_age(age), name_column)
    first, *more = _wrap(reading.get("summary", ""), len(row), width)
    yield row.replace(status, paint(status, status, coloured=coloured), 1) + first.lstrip()
    yield from more
    for finding in sorted(reading.get("findings", ()), key=_rank):
        if finding["status"] != "healthy":
            yield from _format_finding(finding, reading, width, coloured=coloured)


def _rank(judged: Document) -> tuple[int, int]:
    """Return the place of a probe or a finding: the worst first, then the most drastic advice."""
    return -_order(Status, judged["status"], Status.UNKNOWN), -_order(
        Advice, judged.get("advice"), Advice.NONE
    )


def _order(words: type[Status] | type[Advice], word: object, default: int) -> int:
    """Return the place of *word*; an older or a newer daemon may have another one, which is *default*."""
    return next((int(one) for one in words if str(one) == word), default)


def _format_finding(finding: Document, reading: Document, width: int, *, coloured: bool) -> Iterator[str]:
    """Yield the finding and its advice, without its summary if the probe's line has it."""
    status, advice = sanitize(finding["status"]), finding.get("advice", "none")
    name = sanitize(" ".join(filter(None, (finding["name"], finding.get("subject")))))
    is_shown = finding["summary"] in str(reading.get("summary"))
    summary = "" if is_shown else f": {finding['summary']}"
    todo = f" (advice: {advice})" if advice != "none" else ""
    first, *more = textwrap.wrap(
        sanitize(f"- {status} {name}{summary}{todo}"), width, initial_indent="  ", subsequent_indent="    "
    )
    yield first.replace(status, paint(status, status, coloured=coloured), 1)
    yield from more


def _format_row(name: str, status: str, age: str, name_column: int) -> str:
    return f"{name:{name_column}}{status:{STATUS_COLUMN}}{age:{AGE_COLUMN}}"


def _wrap(text: object, indent: int, width: int) -> list[str]:
    """Return *text* in lines, at least one, that start at column *indent*."""
    pad = " " * indent
    return textwrap.wrap(sanitize(text), width, initial_indent=pad, subsequent_indent=pad) or [pad]
