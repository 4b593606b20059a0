"""How names, labels and numbers are written for Prometheus: what text 0.0.4 and OpenMetrics 1.0 share."""

import enum
import math
from collections.abc import Iterable

_IN_A_LABEL = str.maketrans({"\\": "\\\\", "\n": "\\n", '"': '\\"'})
_IN_A_HELP_TEXT = str.maketrans({"\\": "\\\\", "\n": "\\n"})


class Dialect(enum.Enum):
    """The two ways to write a page; the value is the page's Content-Type."""

    TEXT = "text/plain; version=0.0.4; charset=utf-8"
    OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


def label_text(value: str) -> str:
    """*value* as it stands between the quotes of a label."""
    return encodable(value).translate(_IN_A_LABEL)


def help_text(text: str, dialect: Dialect) -> str:
    """*text* as it stands on a HELP line; only OpenMetrics escapes the quote there."""
    rules = _IN_A_LABEL if dialect is Dialect.OPENMETRICS else _IN_A_HELP_TEXT
    return encodable(text).translate(rules)


def series_text(name: str, labels: Iterable[tuple[str, str]]) -> str:
    """The identity of a series: all of its line that stands before the value and its blank."""
    pairs = ",".join(f'{label}="{label_text(value)}"' for label, value in labels)
    return f"{name}{{{pairs}}}" if pairs else name


def number_text(value: float) -> str:
    """*value* so that exactly it is read back: the shortest such decimal, whole numbers without a point."""
    if math.isfinite(value):
        return float.__repr__(value).removesuffix(".0")
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"


def bound_text(bound: float) -> str:
    """The upper *bound* of a bucket in OpenMetrics' canonical form: always a float (``1.0``), ``+Inf``."""
    return "+Inf" if bound == math.inf else repr(float(bound))


def as_number(value: object) -> float | None:
    """*value* as a float, None if it is not a number: text is not, nor is an integer beyond any float."""
    if isinstance(value, str | bytes | bytearray):
        return None
    try:
        return float(value)  # type: ignore[arg-type]  # that is the question
    except (TypeError, ValueError, OverflowError):
        return None


def encodable(text: str) -> str:
    """*text* with lone surrogates spelt out: a path that is not UTF-8 must not cost the page."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
