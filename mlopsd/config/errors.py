"""A configuration issue as one line: origin, key, value, reason and fix."""

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_core import ErrorDetails

CREDENTIALS_IN_URI = re.compile(r"(?<=://)(?!/).*(?=@)", re.DOTALL)  # a password may hold / and @
SECRET_KEY = re.compile(r"key|password|secret|token|credential", re.IGNORECASE)
PUBLIC_ENDINGS = (
    "_file",
    "_header",
    "public_key",
)  # of keys that hold no secret themselves
MASK = "********"
LONGEST = 60  # characters of a value

REASONS = {
    "missing": "is missing; add it",
    "greater_than": "must be more than {gt}; choose a larger one",
    "greater_than_equal": "must be at least {ge}; choose a larger one",
    "less_than": "must be less than {lt}; choose a smaller one",
    "less_than_equal": "must be at most {le}; choose a smaller one",
    "literal_error": "is not known; choose one of {expected}",
    "int_parsing": "is not a whole number; write one without quotes",
    "int_type": "is not a whole number; write one without quotes",
    "int_from_float": "is not a whole number; leave out the fraction",
    "float_parsing": "is not a number; write one without quotes",
    "float_type": "is not a number; write one without quotes",
    "bool_parsing": "is neither true nor false; write one of them without quotes",
    "bool_type": "is neither true nor false; write one of them without quotes",
    "string_type": "is not text; put it in quotes",
    "tuple_type": 'is not a list; write it as ["a", "b"]',
    "list_type": 'is not a list; write it as ["a", "b"]',
    "path_type": "is not a path; put it in quotes",
    "model_type": "is not a table; write its keys below a line [{key}]",
    "model_attributes_type": "is not a table; write its keys below a line [{key}]",
    "dict_type": "is not a table; write its keys below a line [{key}]",
    "finite_number": "is not finite; choose a number",
}


@dataclass(frozen=True, slots=True)
class ConfigIssue:
    """One error or warning about the configuration.

    Attributes:
        key: The key in full (``api.port``).
        complaint: The reason and the fix: "reason; fix".
        value: The value as it may be shown, or None if there is none to show.
        origin: The file, the variable or the option that set the value.
    """

    key: str
    complaint: str
    value: str | None = None
    origin: str = ""

    def __str__(self) -> str:
        where = f"{self.origin}: " if self.origin else ""
        what = self.key if self.value is None else f"{self.key} = {self.value}"
        return _printable(" ".join(f"{where}{what}: {self.complaint}".splitlines()))


class ConfigurationError(Exception):
    """The error of an invalid configuration; *mistakes* has an issue for each reason."""

    def __init__(self, mistakes: Iterable[ConfigIssue]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join(map(str, self.mistakes)))


def nearest(name: str, known_names: Iterable[str]) -> str:
    """Return a hint at the known name that was probably meant, or a list of all known names."""
    known = sorted(known_names)
    if match := difflib.get_close_matches(name, known, n=1, cutoff=0.6):
        return f"did you mean {match[0]!r}?"
    return f"there is {', '.join(map(repr, known))}" if known else "there is none"


def shown(key: str, value: object) -> str:
    """Return *value* for printing: no secret, no credentials in a URI, at most `LONGEST` characters."""
    if _is_secret(key, value):
        return MASK
    text = repr(_masked(value))
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."


def without_credentials(text: str) -> str:
    """Replace the user and the password of each URI in *text* by `MASK`."""
    return CREDENTIALS_IN_URI.sub(MASK, text)


def _printable(line: str) -> str:
    """Escape the control characters in *line*, as ``repr`` does."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in line)


def _masked(value: object) -> object:
    """Mask the secrets in *value* item by item: one URI does not hide its neighbour."""
    if isinstance(value, str):
        return without_credentials(value)
    if isinstance(value, Mapping):
        return {name: MASK if _is_secret(str(name), item) else _masked(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        items = map(_masked, value)
        return list(items) if isinstance(value, list) else tuple(items)
    return str(value) if isinstance(value, Path) else value


def _is_secret(key: str, value: object) -> bool:
    """Return whether *value* is a secret, by its type or its *key*. An empty value is none."""
    name = key.rsplit(".", 1)[-1]
    named = bool(SECRET_KEY.search(name)) and not name.endswith(PUBLIC_ENDINGS)
    return isinstance(value, SecretStr) or (named and bool(value))


def explain(
    error: ValidationError,
    model: type[BaseModel],
    prefix: str,
    origin: Callable[[str], str],
    *,
    also: Iterable[str] = (),
    around: type[BaseModel] | None = None,
) -> list[ConfigIssue]:
    """Return a `ConfigIssue` for each error that pydantic found in *model* below the table *prefix*.

    *also* are further keys that the table may hold. *around* is the model of the whole file.
    """
    more = tuple(also)
    homes = [*homes_of(model, prefix), *((name, prefix) for name in more)]
    if around is not None:
        homes += [home for home in homes_of(around) if not home[1].startswith("probes")]
    return [_explain(detail, model, prefix, origin, (more, homes)) for detail in error.errors()]


def hint_at(key: str, known: Iterable[str], homes: Iterable[tuple[str, str]]) -> str:
    """Return a hint at the right place of *key* among *homes*, or else at the nearest of *known*.

    *homes* are keys, each with the table that holds it; "" is the top of the file.
    """
    places = sorted({home for name, home in homes if name == key})
    if not places:
        return nearest(key, known)
    return f"{key!r} is a key {' or '.join(_place(home) for home in places)}; move it there"


def homes_of(model: type[BaseModel], table: str = "") -> Iterator[tuple[str, str]]:
    """Yield each key of *model* and of the tables in it, with its table."""
    for key, field in model.model_fields.items():
        yield key, table
        for inner, suffix in _models_in(field.annotation):
            yield from homes_of(inner, f"{table}.{key}{suffix}".lstrip("."))


def _place(table: str) -> str:
    return f"of [{table}]" if table else "at the top of the file, above the first table"


def _models_in(annotation: Any, suffix: str = "") -> Iterator[tuple[type[BaseModel], str]]:
    """Yield each model in *annotation*, with the part of its table's name that the user chooses."""
    if _is_model(annotation):
        yield annotation, suffix
    is_map = isinstance(origin := get_origin(annotation), type) and issubclass(origin, Mapping)
    for argument in get_args(annotation):
        yield from _models_in(argument, ".NAME" if is_map else suffix)


def _explain(
    detail: ErrorDetails,
    model: type[BaseModel],
    prefix: str,
    origin: Callable[[str], str],
    more: tuple[Sequence[str], Sequence[tuple[str, str]]],
) -> ConfigIssue:
    place = [str(part) for part in detail["loc"] if part != "[key]"]
    key = ".".join([prefix, *place] if prefix else place)
    if detail["type"] == "extra_forbidden":
        also, homes = more
        known = (*_siblings(model, place), *(also if len(place) == 1 else ()))
        return ConfigIssue(key, f"no such key; {hint_at(place[-1], known, homes)}", None, origin(key))
    is_written = detail["type"] != "missing" and origin(key) != "default"
    where = origin(key if is_written else key.rpartition(".")[0])
    return ConfigIssue(key, _complaint(detail, key), _value(detail, place), where)


def _value(detail: ErrorDetails, place: list[str]) -> str | None:
    """Return the value for printing, or None for a whole table or for an invalid name."""
    is_name = "[key]" in detail["loc"]
    if is_name or detail["type"] == "missing" or isinstance(detail["input"], dict):
        return None
    return shown(_named(place), detail["input"])


def _complaint(detail: ErrorDetails, key: str) -> str:
    if detail["type"] == "value_error":
        return without_credentials(str(detail["ctx"]["error"]))
    context = {name: _as_text(value) for name, value in detail.get("ctx", {}).items()}
    template = REASONS.get(detail["type"])
    if template:
        return template.format(key=key, **context)
    return without_credentials(detail["msg"][:1].lower() + detail["msg"][1:])


def _as_text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _named(place: list[str]) -> str:
    """Return the last part of *place* that is a name: an item of a list is as secret as the list."""
    names = [part for part in place if not part.isdigit()]
    return names[-1] if names else ""


def _siblings(model: type[BaseModel], place: list[str]) -> Iterable[str]:
    """Return the known keys of the table that holds the last part of *place*."""
    known = model
    inside: Any = model
    for part in place[:-1]:
        inside = _below(inside, part)
        known = inside if _is_model(inside) else known
    return known.model_fields


def _below(annotation: Any, part: str) -> Any:
    """Return the annotation of *part* in *annotation*: of a key, an item of a list, a value of a map."""
    if _is_model(annotation):
        field = annotation.model_fields.get(part)
        return field.annotation if field else None
    values = [argument for argument in get_args(annotation) if argument is not Ellipsis]
    return values[-1] if values else None


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
