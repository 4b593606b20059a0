"""What is going on with a version at this moment, for whoever looks while it lasts."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

Doing = Literal["judge", "fetch", "load", "canary", "swap", "drain"]
WORDS = {
    "judge": "judging",
    "fetch": "fetching",
    "load": "loading",
    "canary": "proving",
    "swap": "swapping to",
    "drain": "draining the version before",
}
UNITS = ((10**9, "GB"), (10**6, "MB"), (10**3, "kB"))


@dataclass(frozen=True, slots=True)
class Progress:
    """One step of a version on its way into service; bytes only while it is fetched."""

    step: Doing
    version: str
    since: datetime
    bytes: int | None = None
    total_bytes: int | None = None

    def facts(self) -> dict[str, Any]:
        """As a reading shows it; what is not known is left out."""
        shown = {
            "step": self.step,
            "version": self.version,
            "since": moment_text(self.since),
            "bytes": self.bytes,
            "total_bytes": self.total_bytes,
        }
        return {key: value for key, value in shown.items() if value is not None}

    def sentence(self) -> str:
        """For a person: "fetching version 7, 3.0 of 10.0 GB"."""
        said = f"{WORDS[self.step]} version {self.version}"
        if self.bytes is None:
            return said
        if self.total_bytes is None:
            return f"{said}, {size_text(self.bytes)}"
        return f"{said}, {size_text(self.bytes)} of {size_text(self.total_bytes)}"


class ProgressTracker:
    """Holds the step in progress, and shows each change.

    Attributes:
        current: None while nothing is in progress.
    """

    def __init__(self, show: Callable[[Progress | None], None]) -> None:
        self._show = show
        self.current: Progress | None = None

    def set(self, progress: Progress | None) -> None:
        """Report *progress*, or None at its end."""
        self.current = progress
        self._show(progress)


def moment_text(moment: datetime) -> str:
    """*moment* as everything else in an answer has it: RFC 3339, in UTC, to the millisecond."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def size_text(size: int) -> str:
    """*size* in bytes as people say it."""
    for unit, name in UNITS:
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size} bytes"
