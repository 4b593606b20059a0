"""The history of a host for people: one line per event, oldest first, in local time."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from mlopsd.cli.terminal.text import paint, sanitize

TIME_COLUMN = 16  # "12-01 03:12:05" and two spaces
LONGEST_NAME = 32  # columns of a probe's name
HOST = "host"
DETAILS = ("summary", "reason", "changes", "mistakes", "version")  # the first that an event has
EXPLAINED = ("probe status changed", "health changed")  # by the findings above
Event = Mapping[str, Any]


def format_history(events: Sequence[Event], *, width: int, coloured: bool) -> str:
    """Return *events* (as in the body of ``/health/history``) in lines of at most *width* columns."""
    subjects = [sanitize(event["fields"].get("probe") or HOST)[:LONGEST_NAME] for event in events]
    column = max(map(len, subjects), default=0) + 2
    rows = zip(events, subjects, strict=True)
    return "\n".join(line for row in rows for line in _format_row(*row, column, width, coloured=coloured))


def _format_row(event: Event, subject: str, column: int, width: int, *, coloured: bool) -> Iterator[str]:
    at = datetime.fromisoformat(event["time"]).astimezone().strftime("%m-%d %H:%M:%S")
    lead = f"{at:{TIME_COLUMN}}{subject:{column}}"
    text = sanitize(_describe(event["event"], event["fields"])) or "(no text)"
    first, *more = textwrap.wrap(text, width, initial_indent=lead, subsequent_indent=" " * len(lead))
    status = sanitize(event["fields"].get("status", ""))
    yield first.replace(status, paint(status, status, coloured=coloured), 1) if status else first
    yield from more


def _describe(event: str, fields: Mapping[str, Any]) -> str:
    if event == "request":
        by = f", by {fields['by']}" if "by" in fields else ""
        return f"{fields.get('method')} {fields.get('route')}: {fields.get('status')}{by}"
    name = " ".join(str(fields[key]) for key in ("finding", "subject") if fields.get(key))
    change = " to ".join(dict.fromkeys(str(fields[key]) for key in ("before", "status") if fields.get(key)))
    advice = fields.get("advice", "none")
    head = " ".join(filter(None, (event, name, change)))
    todo = f" (advice: {advice})" if advice != "none" else ""
    details = () if event in EXPLAINED else DETAILS
    detail = next((_plain(fields[key]) for key in details if fields.get(key)), "")
    return head + todo + (f": {detail}" if detail else "")


def _plain(value: object) -> str:
    return "; ".join(map(str, value)) if isinstance(value, list) else str(value)
