"""The verdict as text and exit status of monitoring plugins (Nagios, Icinga, Checkmk)."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from mlopsd.cli.errors import CANNOT_TELL
from mlopsd.cli.terminal.text import sanitize

EXITS = {"healthy": 0, "degraded": 1, "unhealthy": 2, "unknown": CANNOT_TELL}
LABELS = ("OK", "WARNING", "CRITICAL", "UNKNOWN")
LONGEST = 400  # characters: NRPE's older protocol carries 1024 bytes, performance data included


def exit_status(health: Mapping[str, Any]) -> int:
    """Return the exit status for the verdict of *health*; a status of another version is unknown."""
    return EXITS.get(str(health.get("status")), CANNOT_TELL)


def format_health(health: Mapping[str, Any]) -> str:
    """Return one line: state, summary, advice, and the number of probes per status as performance data."""
    counts = Counter(str(reading["status"]) for reading in health["probes"].values())
    numbers = " ".join(f"{status}={counts[status]}" for status in EXITS)
    return (
        f"{format_line(exit_status(health), health.get('summary', ''), _format_advice(health))} | {numbers}"
    )


def format_line(status: int, text: object, more: str = "") -> str:
    """Return a line with the state of *status*, with *text* cut at the limit, and with all of *more*.

    Replace ``|`` in *text*, which would start the performance data.
    """
    summary = sanitize(text).replace("|", "/")
    room = LONGEST - len(more)
    if len(summary) > room:
        summary = f"{summary[: room - 1]}…"
    return f"MLOPSD {LABELS[status]} - {summary}{more}"


def _format_advice(health: Mapping[str, Any]) -> str:
    advice = sanitize(health.get("advice", "none"))[:40].replace("|", "/")
    return "" if advice == "none" else f"; advice: {advice}"
