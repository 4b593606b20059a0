"""The facts of any probe as a table, folded away until somebody wants to know."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from mlopsd.web.jsonable import DEEPEST, jsonable
from mlopsd.web.page.markup import text

MOST_ROWS = 200  # the rest is in the JSON
MOST_IN_ROW = 20


def facts_table(probe: str, facts: Mapping[str, Any]) -> str:
    """*facts* of *probe*, one a row, nested ones by their path; nothing of nothing."""
    rows = list(islice(_rows(facts, ""), MOST_ROWS + 1))
    if not rows:
        return ""
    more = f'<p>and more in <a href="/health/{probe}">the reading</a></p>' if len(rows) > MOST_ROWS else ""
    listed = "".join(
        f'<tr><th scope="row">{text(name)}</th><td>{text(value)}</td></tr>\n'
        for name, value in rows[:MOST_ROWS]
    )
    many = f"{MOST_ROWS}+ facts" if more else "1 fact" if len(rows) == 1 else f"{len(rows)} facts"
    return (
        f'<details id="facts-{probe}">\n<summary>{many}</summary>\n'
        f"<table><tbody>\n{listed}</tbody></table>{more}\n</details>\n"
    )


def _rows(value: object, path: str, depth: int = 0) -> Iterator[tuple[str, str]]:
    """Each value inside *value* with its path, one after the other: nobody counts on an end."""
    if depth >= DEEPEST:
        yield path, "…"
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _rows(item, _joined(path, key), depth + 1)
    elif isinstance(value, Sequence) and not _fits(value):
        for index, item in enumerate(value):
            yield from _rows(item, _joined(path, index), depth + 1)
    else:
        yield path, _said(value)


def _fits(value: Sequence[object]) -> bool:
    """Whether *value* is a word or two."""
    return isinstance(value, str | bytes) or (
        len(value) <= MOST_IN_ROW and not any(isinstance(item, Mapping | list | tuple) for item in value)
    )


def _joined(path: str, key: object) -> str:
    return f"{path}.{_said(key)}" if path else _said(key)


def _said(value: object) -> str:
    told = jsonable(value)
    if isinstance(told, bool):
        return "yes" if told else "no"
    if isinstance(told, list):
        return ", ".join(map(_said, told)) or "none"
    return "none" if told in (None, {}) else str(told)
