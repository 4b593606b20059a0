"""The health of a host for people: the verdict, a line per probe, and its unhealthy findings."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from mlopsd.cli.terminal.text import paint, sanitize
from mlopsd.format import format_age, format_quantity

AGE_COLUMN = 9  # "119 min" and two spaces
SINCE_COLUMN = 16  # "03:07, 119 min" and two
STATUS_COLUMN = 11  # "unhealthy" and two
DAY = 86_400
MOST_FINDINGS = 20  # of one probe, unless all are shown
STATUSES = (
    "healthy",
    "degraded",
    "unknown",
    "unhealthy",
)  # those of mlopsd.probe, which takes 0.2 s to import
ADVICE = (
    *("none", "watch", "restart_app", "free_resources", "fix_config", "fix_model", "fix_registry"),
    *("reset_gpu", "reboot", "check_hardware", "replace_hardware"),
)
Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TableStyle:
    """The style of the table.

    Attributes:
        width: the most columns of a line.
        coloured: whether the terminal shows colours.
        now: the time to which ages refer.
        shows_all: whether healthy findings and the age of each reading are shown too.
        shows_since: whether it is shown since when each status stands; not for one check.
    """

    width: int
    coloured: bool
    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    shows_all: bool = False
    shows_since: bool = True

    def paint(self, line: str, status: str) -> str:
        """Return *line* with the first *status* in its colour."""
        return line.replace(status, paint(status, status, coloured=self.coloured), 1)


def format_health(health: Document, style: TableStyle) -> str:
    """Return *health* (the body of ``/health/detailed``) in lines, the worst probe first."""
    lines = [*_format_verdict(health, style), ""]
    probes = health["probes"]
    name_column = max((len(name) for name in ("PROBE", *probes)), default=0) + 2
    lines.append(_format_row(f"{'PROBE':{name_column}}", "STATUS", "SINCE", "AGE", style) + "SUMMARY")
    for name, reading in sorted(probes.items(), key=lambda probe: _rank(probe[1])):
        lines += _format_probe(f"{sanitize(name):{name_column}}", reading, style)
    return "\n".join(lines)


def _format_verdict(health: Document, style: TableStyle) -> Iterator[str]:
    status = sanitize(health["status"])
    seconds = _seconds_since(health, style) if style.shows_since else None
    parts = [style.paint(status, status)] + ([] if seconds is None else [f"for {format_age(seconds)}"])
    if (advice := health.get("advice", "none")) != "none":
        parts.append(f"advice: {sanitize(advice)}")
    if "host" in health:
        parts.append(f"{sanitize(health['host'])}, mlopsd {sanitize(health.get('version', ''))}")
    yield "  ".join(parts)
    yield from textwrap.wrap(_without_probes(health), style.width)


def _without_probes(health: Document) -> str:
    """Return the summary without the parts that the probes' lines repeat."""
    summary = sanitize(health.get("summary", ""))
    longest_first = sorted(health["probes"].items(), key=lambda probe: -len(probe[0]))  # "gpu" ends "my_gpu"
    for name, reading in longest_first:
        summary = summary.replace(sanitize(f"{name} {reading['status']}: {reading.get('summary', '')}"), "")
    return "; ".join(part for part in summary.split("; ") if part)


def _seconds_since(judged: Document, style: TableStyle) -> float | None:
    """Return the seconds since *judged* has its status; None from an older or a newer daemon."""
    try:
        return max((style.now - datetime.fromisoformat(judged["since"])).total_seconds(), 0)
    except (KeyError, TypeError, ValueError):
        return None


def _format_since(judged: Document, style: TableStyle) -> str:
    """Return the local time since when *judged* has its status, and for how long: ``03:07, 12 min``."""
    if (seconds := _seconds_since(judged, style)) is None:
        return ""
    at = datetime.fromisoformat(judged["since"]).astimezone()
    return f"{at:%H:%M}, {format_age(seconds)}" if seconds < DAY else f"{at:%m-%d}, {format_age(seconds)}"


def _format_probe(name: str, reading: Document, style: TableStyle) -> Iterator[str]:
    status, age = sanitize(reading["status"]), reading.get("age_seconds")
    shown_age = "-" if age is None else format_age(age)
    row = _format_row(name, status, _format_since(reading, style), shown_age, style)
    first, *more = _wrap(f"{reading.get('summary', '')}{_numbers(reading, style)}", len(row), style.width)
    yield style.paint(row, status) + first.lstrip()
    yield from more
    findings = sorted(reading.get("findings", ()), key=_rank)
    shown = [one for one in findings if style.shows_all or one["status"] != "healthy"]
    most = len(shown) if style.shows_all else MOST_FINDINGS
    for finding in shown[:most]:
        yield from _format_finding(finding, reading, style)
    if shown[most:]:
        yield f"  - and {len(shown) - most} more findings; see them with -v"


def _numbers(reading: Document, style: TableStyle) -> str:
    """Return the numbers of a probe that is healthy, or of any if all is shown: ``; busy 41 %``."""
    if reading["status"] != "healthy" and not style.shows_all:
        return ""
    return "".join(f"; {_number(one)}" for one in reading.get("numbers", ()))


def _number(number: Document) -> str:
    title, value, unit = str(number["title"]), number["value"], str(number["unit"])
    shown = title if title[:1].islower() or title.isupper() else title.lower()
    limit = f" of {format_quantity(number['limit'], unit)}" if "limit" in number else ""
    return f"{shown} {format_quantity(value, unit)}{limit}"


def _rank(judged: Document) -> tuple[int, int]:
    """Return the place of a probe or a finding: the worst first, then the most drastic advice."""
    return -_place(STATUSES, judged["status"], "unknown"), -_place(ADVICE, judged.get("advice"), "none")


def _place(words: Sequence[str], word: object, default: str) -> int:
    """Return the place of *word*; an older or a newer daemon may have another one, which is *default*."""
    return words.index(word if word in words else default)


def _format_finding(finding: Document, reading: Document, style: TableStyle) -> Iterator[str]:
    """Yield the finding, since when it stands and its advice.

    Leave out its summary if the probe's line has it, and its time if that is the probe's.
    """
    status, advice = sanitize(finding["status"]), finding.get("advice", "none")
    name = sanitize(" ".join(filter(None, (finding["name"], finding.get("subject")))))
    is_shown = finding["summary"] in str(reading.get("summary"))
    summary = "" if is_shown else f": {finding['summary']}"
    since = _format_since(finding, style) if style.shows_since else ""
    is_new = status != "healthy" and since not in ("", _format_since(reading, style))
    notes = [f"since {since}"] if is_new else []
    notes += [f"advice: {advice}"] if advice != "none" else []
    noted = f" ({'; '.join(notes)})" if notes else ""
    text = sanitize(f"- {status} {name}{summary}{noted}")
    first, *more = textwrap.wrap(text, style.width, initial_indent="  ", subsequent_indent="    ")
    yield style.paint(first, status)
    yield from more


def _format_row(name: str, status: str, since: str, age: str, style: TableStyle) -> str:
    """Return the cells before the summary; *name* fills its column."""
    row = f"{name}{status:{STATUS_COLUMN}}"
    row += f"{since:{SINCE_COLUMN}}" if style.shows_since else ""
    return row + (f"{age:{AGE_COLUMN}}" if style.shows_all else "")


def _wrap(text: object, indent: int, width: int) -> list[str]:
    """Return *text* in lines, at least one, that start at column *indent*."""
    pad = " " * indent
    return textwrap.wrap(sanitize(text), width, initial_indent=pad, subsequent_indent=pad) or [pad]
