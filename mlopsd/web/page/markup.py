"""The smallest pieces of the page; whatever comes from a probe goes through `text`."""

from datetime import UTC, datetime
from html import escape

from mlopsd.probe import Advice, Status
from mlopsd.web.jsonable import jsonable, time_text

LONGEST = 2000  # characters of one text; the whole is in the JSON
MINUTE, HOUR, DAY = 60, 3600, 86400
SIZES = ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB"))


def text(value: object) -> str:
    """*value* as text that means nothing to HTML, cut where it is no sentence any more."""
    said = str(jsonable(value))
    return escape(said if len(said) <= LONGEST else said[:LONGEST] + "…")


def word(status: Status) -> str:
    """*status* as a word in its colour, with its sign before it."""
    return f'<span class="word {status}">{status}</span>'


def advice_line(advice: Advice) -> str:
    """*advice* on a line of its own, or nothing where there is none."""
    return "" if advice == Advice.NONE else f'<p class="advice">Advice: <strong>{said(advice)}</strong></p>\n'


def said(advice: Advice) -> str:
    """*advice* in words."""
    return str(advice).replace("_", " ")


def moment(at: datetime) -> str:
    """*at* to the second, in UTC; true for as long as the page lies around."""
    written = time_text(at)
    return f'<time datetime="{written}">{written[:19].replace("T", " ")} UTC</time>'


def since(at: datetime, now: datetime) -> str:
    """*at*, and how long ago that is."""
    return f"{moment(at)} ({age((now - at).total_seconds())})"


def until(at: datetime, now: datetime) -> str:
    """*at*, and how long it is till then."""
    return f"{moment(at)} (in {age((at - now).total_seconds(), 'left')})"


def age(seconds: float, counts: str = "age") -> str:
    """*seconds* in words, which the page's script lets grow, or shrink where it *counts* what is left."""
    return f'<span class="age" data-{counts}="{seconds:.1f}">{age_text(seconds)}</span>'


def age_text(seconds: float) -> str:
    """*seconds* as people say it, in the largest unit that it fills twice; page.js says the same."""
    for unit, name in ((DAY, "d"), (HOUR, "h"), (MINUTE, "min")):
        if seconds >= 2 * unit:
            return f"{seconds // unit:.0f} {name}"
    return f"{max(seconds, 0) // 1:.0f} s"


def duration_text(seconds: float) -> str:
    """How long something took, as people say it."""
    return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1000:.3g} ms"


def size_text(size: float) -> str:
    """*size* in bytes as people say it."""
    for unit, name in SIZES:
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size:.0f} bytes"


def moment_of(value: object) -> datetime | None:
    """The moment that a fact tells, in UTC; None where it is none, or has no time zone."""
    try:
        at = datetime.fromisoformat(value) if isinstance(value, str) else value
        return at.astimezone(UTC) if isinstance(at, datetime) and at.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None
