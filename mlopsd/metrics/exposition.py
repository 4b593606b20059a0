"""Prometheus' two text formats: names, labels, numbers, and the choice of the format for a scraper."""

import enum
import math
from collections.abc import Iterable, Iterator, Mapping

_IN_A_LABEL = str.maketrans({"\\": "\\\\", "\n": "\\n", '"': '\\"'})
_IN_A_HELP_TEXT = str.maketrans({"\\": "\\\\", "\n": "\\n"})
_MediaRange = tuple[str, str | None]  # a type or coding, and its version


class Dialect(enum.Enum):
    """The text formats. The value is the page's Content-Type."""

    TEXT = "text/plain; version=0.0.4; charset=utf-8"
    OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


def help_text(text: str, dialect: Dialect) -> str:
    """Escape *text* for a HELP line; only OpenMetrics escapes quotes there."""
    rules = _IN_A_LABEL if dialect is Dialect.OPENMETRICS else _IN_A_HELP_TEXT
    return encodable(text).translate(rules)


def series_text(name: str, labels: Iterable[tuple[str, str]]) -> str:
    """Return the identity of a series: its line up to the blank before the value."""
    pairs = ",".join(f'{label}="{encodable(value).translate(_IN_A_LABEL)}"' for label, value in labels)
    return f"{name}{{{pairs}}}" if pairs else name


def number_text(value: float) -> str:
    """Return the shortest decimal that reads back as *value*; whole numbers have no point."""
    if math.isfinite(value):
        return float.__repr__(value).removesuffix(".0")
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"


def bound_text(bound: float) -> str:
    """Return the upper *bound* of a bucket in OpenMetrics' canonical form: ``1.0``, ``+Inf``."""
    return "+Inf" if bound == math.inf else repr(float(bound))


def as_number(value: object) -> float | None:
    """Convert *value* to a float, or return None for text, too large integers and other types."""
    if isinstance(value, str | bytes | bytearray):
        return None
    try:
        return float(value)  # type: ignore[arg-type]  # raises TypeError otherwise
    except (TypeError, ValueError, OverflowError):
        return None


def encodable(text: str) -> str:
    """Escape the lone surrogates in *text*: a path that is not UTF-8 must not break the page."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def choose_dialect(accept: str) -> Dialect:
    """Choose OpenMetrics if ``Accept`` names it and likes the text no better, else the text.

    A header that allows neither gets the text as well: a page is of more use than a 406.
    """
    accepted = dict(_parse(accept))
    text, _ = _weight(accepted, "text/plain", "0.0.4")
    openmetrics, named = _weight(accepted, "application/openmetrics-text", "1.0.0")
    prefers_openmetrics = openmetrics > text or (named and openmetrics == text > 0)
    return Dialect.OPENMETRICS if prefers_openmetrics else Dialect.TEXT


def accepts_gzip(accept_encoding: str) -> bool:
    """Return whether ``Accept-Encoding`` allows gzip, with no lower weight than identity (RFC 9110, 12.5)."""
    weights = {coding: quality for (coding, _), quality in _parse(accept_encoding)}
    gzip = weights.get("gzip", weights.get("x-gzip", weights.get("*", 0.0)))
    return gzip > 0 and gzip >= weights.get("identity", 0.0)


def _weight(accepted: Mapping[_MediaRange, float], name: str, version: str) -> tuple[float, bool]:
    """Return the quality of the most specific match for a type, and whether that names the type itself."""
    for media_type in (name, f"{name.partition('/')[0]}/*", "*/*"):
        for media_range in ((media_type, version), (media_type, None)):
            if media_range in accepted:
                return accepted[media_range], media_type == name
    return 0.0, False


def _parse(header: str) -> Iterator[tuple[_MediaRange, float]]:
    """Yield each element of *header* with its quality; an invalid quality is 0."""
    for element in header.lower().split(","):
        media_type, *parameters = [part.strip() for part in element.split(";")]
        pairs = (part.partition("=") for part in parameters)
        given = {key.strip(): value.strip(' "') for key, _, value in pairs}
        if media_type:
            yield (media_type, given.get("version")), _quality(given.get("q", "1"))


def _quality(text: str) -> float:
    try:
        quality = float(text)
    except ValueError:
        return 0.0
    return quality if 0 <= quality <= 1 else 0.0
