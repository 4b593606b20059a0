"""The verdict in the words and exit statuses of monitoring plugins (Nagios, Icinga, Checkmk)."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from mlopsd.cli.errors import CANNOT_TELL
from mlopsd.cli.terminal.text import harmless

EXITS = {"healthy": 0, "degraded": 1, "unhealthy": 2, "unknown": CANNOT_TELL}
WORDS = ("OK", "WARNING", "CRITICAL", "UNKNOWN")
LONGEST = 400  # characters: NRPE's older protocol carries 1024 bytes, performance data included


def exit_status(health: Mapping[str, Any]) -> int:
    """The exit status that stands for the verdict of *health*; a word of another version is unknown."""
    return EXITS.get(str(health.get("status")), CANNOT_TELL)


def line(health: Mapping[str, Any]) -> str:
    """One line: the word, the summary, the advice, and as performance data how many probes are how."""
    counts = Counter(str(reading["status"]) for reading in health["probes"].values())
    numbers = " ".join(f"{status}={counts[status]}" for status in EXITS)
    return f"{sentence(exit_status(health), health.get('summary', ''), _advice(health))} | {numbers}"


def sentence(status: int, text: object, more: str = "") -> str:
    """*text* under the word for *status*, cut where it is too long, and *more*, which is not cut.

    A ``|`` would begin the performance data.
    """
    said = harmless(text).replace("|", "/")
    room = LONGEST - len(more)
    if len(said) > room:
        said = f"{said[: room - 1]}…"
    return f"MLOPSD {WORDS[status]} - {said}{more}"


def _advice(health: Mapping[str, Any]) -> str:
    """What to do, if anything."""
    advice = harmless(health.get("advice", "none"))[:40].replace("|", "/")
    return "" if advice == "none" else f"; advice: {advice}"
