"""Times, durations and sizes as people read them."""

from datetime import UTC, datetime

MINUTE, HOUR, DAY = 60, 3600, 86400
SIZES = ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB"))


def time_text(moment: datetime) -> str:
    """Return *moment* as RFC 3339 in UTC, to the millisecond."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def age_text(seconds: float) -> str:
    """Return *seconds* in the largest unit that they fill twice; page.js has the same rule."""
    for unit, name in ((DAY, "d"), (HOUR, "h"), (MINUTE, "min")):
        if seconds >= 2 * unit:
            return f"{seconds // unit:.0f} {name}"
    return f"{max(seconds, 0) // 1:.0f} s"


def duration_text(seconds: float) -> str:
    """Return a measured duration in seconds or milliseconds, to three digits."""
    return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1000:.3g} ms"


def size_text(size: float) -> str:
    """Return *size* in bytes with a decimal prefix: "3.0 GB"."""
    for unit, name in SIZES:
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size:.0f} bytes"
