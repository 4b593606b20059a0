"""The verdict in the words and exit statuses of monitoring plugins (Nagios, Icinga, Checkmk)."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from mlopsd.cli.failure import CANNOT_TELL
from mlopsd.cli.text import harmless

EXITS = {"healthy": 0, "degraded": 1, "unhealthy": 2, "unknown": CANNOT_TELL}
WORDS = ("OK", "WARNING", "CRITICAL", "UNKNOWN")


def exit_status(health: Mapping[str, Any]) -> int:
    """The exit status that stands for the verdict of *health*; a word of another version is unknown."""
    return EXITS.get(str(health.get("status")), CANNOT_TELL)


def line(health: Mapping[str, Any]) -> str:
    """One line: the word, the summary, and how many probes have which status as performance data."""
    counts = Counter(str(reading["status"]) for reading in health["probes"].values())
    numbers = " ".join(f"{status}={counts[status]}" for status in EXITS)
    return f"{sentence(exit_status(health), health.get('summary', ''))} | {numbers}"


def sentence(status: int, text: object) -> str:
    """*text* under the word for *status*; a ``|`` would begin the performance data."""
    return f"MLOPSD {WORDS[status]} - {harmless(text).replace('|', '/')}"
