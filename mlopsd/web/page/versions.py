"""The facts that tell which version is wanted, which one serves, and what is under way: the model's.

A probe is known by the shape of its facts and not by its name, so that a stranger's may be shown alike;
a fact of another shape is left to the table of all facts.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any

from mlopsd.web.jsonable import jsonable
from mlopsd.web.page.markup import age, moment_of, since, size_text, text, until

MOST_REJECTED = 20
Line = Callable[[Any, datetime], str | None]


def version_lines(facts: Mapping[str, Any], now: datetime) -> dict[str, str]:
    """The lines for those of *facts* that are of the known shapes, by their keys."""
    told = {key: line(facts[key], now) for key, (_, line) in LINES.items() if key in facts}
    if not {"desired", "served", "progress"} & {key for key, said in told.items() if said}:
        return {}
    if "served" not in facts:
        told["served"] = "none"
    return {
        key: f"<dt>{name}</dt><dd>{told[key]}</dd>\n" for key, (name, _) in LINES.items() if told.get(key)
    }


def _name(value: object, _now: datetime) -> str | None:
    return text(value) if isinstance(value, str) else None


def _version(value: object, _now: datetime) -> str | None:
    if not isinstance(value, Mapping) or "version" not in value:
        return None
    origin = " of ".join(text(value[key]) for key in ("candidate", "registry") if value.get(key))
    number = f"version <strong>{text(value['version'])}</strong>"
    return f"{number}, {origin}" if origin else number


def _since(value: object, now: datetime) -> str | None:
    at = moment_of(value)
    return f"since {since(at, now)}" if at is not None else None


def _progress(value: object, now: datetime) -> str | None:
    if not isinstance(value, Mapping) or "step" not in value:
        return None
    doing = text(value["step"])
    if value.get("version") is not None:
        doing = f"{doing} of version {text(value['version'])}"
    begun = moment_of(value.get("since"))
    lasting = f", for {age((now - begun).total_seconds())}" if begun is not None else ""
    return f"{doing}{lasting}{_bytes(doing, value)}"


def _bytes(doing: str, value: Mapping[str, Any]) -> str:
    """How far *doing* has come: a bar where the end is known; *doing* is escaped."""
    done, total = _size(value.get("bytes")), _size(value.get("total_bytes"))
    if done is None:
        return ""
    if not total:
        return f"<br>{size_text(done)} so far"
    share = min(done / total, 1)
    return (
        f'<progress max="1" value="{share:.4f}" aria-label="{doing}"></progress>'
        f"{size_text(done)} of {size_text(total)} ({share:.0%})"
    )


def _size(value: object) -> float | None:
    size = jsonable(value)
    return size if isinstance(size, int | float) and not isinstance(size, bool) and size >= 0 else None


def _rejected(value: object, now: datetime) -> str | None:
    if not isinstance(value, list | tuple) or not all(isinstance(one, Mapping) for one in value):
        return None
    listed = "".join(f"<li>{said}</li>\n" for said in islice(_rejections(value, now), MOST_REJECTED))
    return f"<ul>\n{listed}</ul>" if listed else None


def _rejections(value: Sequence[Mapping[str, Any]], now: datetime) -> Iterator[str]:
    for one in value:
        reason = text(one.get("reason", "no reason given"))
        again = moment_of(one.get("until"))
        when = f"; tried again {until(again, now)}" if again is not None else ""
        yield f"version <strong>{text(one.get('version', '?'))}</strong>: {reason}{when}"


LINES: Mapping[str, tuple[str, Line]] = {
    "model": ("Model", _name),
    "desired": ("Desired", _version),
    "served": ("Served", _version),
    "drift_since": ("Drift", _since),
    "progress": ("In progress", _progress),
    "rejected": ("Rejected", _rejected),
}
