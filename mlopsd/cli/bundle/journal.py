"""The daemon's lines in the journal, without those that models and probes printed."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from mlopsd.cli.bundle.program import Unavailable, run_program
from mlopsd.cli.systemctl import SERVICE

PRINTED = frozenset({"probe printed", "line printed"})
TEXT_EVENT = re.compile(r"^(?:[\d:.]+ )?[A-Z]+ +(.*?)(?:  \w+=|$)")  # of a line: time, level, event, fields
FIELDS = ("__REALTIME_TIMESTAMP", "PRIORITY", "_PID", "MESSAGE")


def read_journal(since: str) -> bytes:
    """Return the lines of the unit since *since*, as systemd writes a time, one JSON object each.

    A line that models or probes printed is left out, and so is each line of another process than the daemon
    and systemd: a model can write to the journal's sockets. The last line counts what was left out.

    Raises:
        Unavailable: There is no journal, or this user may not read it.
    """
    command = ("journalctl", "-u", SERVICE, "--since", since, "-o", "json", "--no-pager", "-q")
    entries = list(_entries(run_program(*command)))
    if not entries:
        raise Unavailable(f"the journal has no line of {SERVICE} that this user may read")
    kept = [entry for entry in entries if is_of_daemon(entry)]
    lines = [json.dumps({name: entry[name] for name in FIELDS if name in entry}) for entry in kept]
    lines.append(json.dumps({"left_out": len(entries) - len(kept)}))
    return "\n".join(lines).encode() + b"\n"


def _entries(output: bytes) -> Iterator[Mapping[str, Any]]:
    for line in output.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:  # cut off at the limit of the output
            continue
        if isinstance(entry, dict):
            yield entry


def is_of_daemon(entry: Mapping[str, Any]) -> bool:
    """Return whether *entry* is a line of the daemon or of systemd that nobody else's text fills."""
    if entry.get("_PID") == "1":
        return True
    message = entry.get("MESSAGE")
    if not isinstance(message, str) or entry.get("_TRANSPORT") != "stdout":
        return False
    return event_of(message) not in PRINTED


def event_of(message: str) -> str:
    """Return the event of a line of the log, in text or in JSON; "" if it has none."""
    if message.startswith("{"):
        try:
            found = json.loads(message)
        except ValueError:
            return ""
        return str(found.get("event", ""))
    match = TEXT_EVENT.match(message)
    return match[1].strip() if match else ""
