"""Which dialect and which coding a scraper asks for (RFC 9110, 12.5)."""

from collections.abc import Iterator

from mlopsd.metrics.exposition import Dialect

_VERSIONS = {Dialect.TEXT: "0.0.4", Dialect.OPENMETRICS: "1.0.0"}
_NAMES = {Dialect.TEXT: "text/plain", Dialect.OPENMETRICS: "application/openmetrics-text"}


def choose_dialect(accept: str) -> Dialect:
    """OpenMetrics for whoever names it and likes the text no better; the text for everyone else.

    A header that allows neither gets the text as well: a page is of more use than a 406.
    """
    wishes = list(_wishes(accept))
    text, _ = _weight(wishes, Dialect.TEXT)
    openmetrics, named = _weight(wishes, Dialect.OPENMETRICS)
    if openmetrics > text or (named and openmetrics == text > 0):
        return Dialect.OPENMETRICS
    return Dialect.TEXT


def accepts_gzip(accept_encoding: str) -> bool:
    """Whether gzip is allowed, and not liked less than no coding at all."""
    weights = {coding: quality for coding, _, quality in _wishes(accept_encoding)}
    anything = weights.get("*", 0.0)
    gzip = weights.get("gzip", weights.get("x-gzip", anything))
    return gzip > 0 and gzip >= weights.get("identity", 0.0)


def _weight(wishes: list[tuple[str, str | None, float]], dialect: Dialect) -> tuple[float, bool]:
    """The quality that *wishes* give to *dialect*, and whether they name it: the most exact one counts."""
    name = _NAMES[dialect]
    ranks = {name: 2, f"{name.partition('/')[0]}/*": 1, "*/*": 0}
    fits = [
        (ranks[kind], version is not None, quality)
        for kind, version, quality in wishes
        if kind in ranks and version in (None, _VERSIONS[dialect])
    ]
    rank, _, quality = max(fits, default=(-1, False, 0.0))
    return quality, rank == 2  # noqa: PLR2004  # the rank of the name itself, above


def _wishes(header: str) -> Iterator[tuple[str, str | None, float]]:
    """Each element of *header*: what is wished for, its version, its quality; a quality amiss is 0."""
    for element in header.lower().split(","):
        wish, *parameters = [part.strip() for part in element.split(";")]
        given = {
            key.strip(): value.strip(' "') for key, _, value in (part.partition("=") for part in parameters)
        }
        if wish:
            yield wish, given.get("version"), _quality(given.get("q", "1"))


def _quality(text: str) -> float:
    try:
        quality = float(text)
    except ValueError:
        return 0.0
    return quality if 0 <= quality <= 1 else 0.0
