"""Requests that wait are predicted together, where a model was seen to predict each row by itself.

A hundred rows cost what one costs. Each request must still be answered as it would be alone, so only
requests of one form are joined (the same columns, in each column JSON values of a type that pandas makes the
same of whatever else is in the column), and only up to as many rows as were tried. Where a library sums
floats in another order for more rows, the answers are the same to a millionth.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from . import outputs
from .libraries import pandas
from .scoring import JSON, Question, Request, Scorer

SIZES = (2, 3, 5, 8, 13, 21, 34, 64, 256, 1024, 2048)  # rows tried at once; fast code has a case for a rest
ALONE = 64  # rows that are predicted one by one; beyond them the same rows come again
FEWEST = 3  # rows that must have been tried
CLOSE = 1e-6  # relative; what single precision leaves of a sum in another order
# Per type of the signature, what JSON values pandas makes the same of in any company. A whole number
# beside fractions becomes a float first, which is exact enough for a double and not for a float or a long.
# Null and NaN are in none: models fill gaps with what else is in the column, which is other callers'.
ALIKE: dict[str, frozenset[type]] = {
    "double": frozenset({float, int}),
    "float": frozenset({float}),
    "long": frozenset({int}),
    "integer": frozenset({int}),
    "boolean": frozenset({bool}),
    "string": frozenset({str}),
}


@dataclass(frozen=True)
class Form:
    """A request as a table; requests with the same *family* and *columns* can be joined."""

    family: str
    columns: tuple[str, ...]
    rows: list[list[Any]]

    @property
    def key(self) -> tuple[str, tuple[str, ...]]:
        """What joined requests have in common."""
        return self.family, self.columns


def join(forms: Sequence[Form]) -> Request:
    """One request for the rows of all."""
    rows = [row for form in forms for row in form.rows]
    columns = forms[0].columns
    if forms[0].family == "instances":
        return Request(JSON, {"instances": [dict(zip(columns, row, strict=True)) for row in rows]}, len(rows))
    return Request(JSON, {"dataframe_split": {"columns": list(columns), "data": rows}}, len(rows))


class Together:
    """Tells which requests can be joined.

    Attributes:
        most_rows: how many rows may be predicted together; 0 is off.
        why: the reason, for an operator.
    """

    def __init__(self, scorer: Scorer, wanted: str) -> None:
        self._scorer = scorer
        self._is_exact = wanted == "exact"
        self._alike = _alike(scorer.schema)
        self._required = set(scorer.schema.required_input_names()) if self._alike is not None else set()
        self._kinds: frozenset[str] = frozenset()
        self.most_rows = 0
        self.is_open = wanted != "never" and self._alike is not None  # for a proof
        if wanted == "never":
            self.why = "off: the configuration says so"
        elif self._alike is None:
            self.why = "off: the model's signature has no plain named columns"
        else:
            self.why = "off: not tried yet"

    def form(self, request: Request) -> Form | None:
        """*request* as a table that can be joined with others."""
        if not self.most_rows or request.mime != JSON or not request.rows or request.rows > self.most_rows:
            return None
        form = _form(request.document)
        if (
            form is None
            or self._alike is None
            or not self._required <= set(form.columns) <= self._alike.keys()
        ):
            return None
        allowed = [self._alike[name] for name in form.columns]
        return form if all(_is_alike(row, allowed) for row in form.rows) else None

    def parts(self, answer: Any, sizes: Sequence[int]) -> list[Any] | None:
        """*answer*, of joined requests, as one for each; None if it is not of the kind that was tried."""
        if _kind(answer) not in self._kinds:
            return None
        whole = self._scorer.jsonable(answer)
        if not isinstance(whole, list) or len(whole) != sum(sizes):
            return None
        parts, at = [], 0
        for size in sizes:
            parts.append(whole[at : at + size])
            at += size
        return parts

    def prove(self, question: Question, seconds: float) -> None:
        """See for at most about *seconds* whether the rows of *question* are predicted each by itself."""
        self.is_open = False
        try:
            self._try(_various_rows(question.data, self._alike or {}), time.monotonic() + seconds)
        except _Untried as reason:
            self.why = f"off: {reason}"
        except Exception:  # noqa: BLE001  # the model's, or of an answer that nothing can be compared with
            self.why = "off: the model failed when it was tried"

    def _try(self, rows: list[list[Any]], deadline: float) -> None:
        columns = tuple(self._alike or {})
        singles: list[_Single] = []
        proven = 0
        for size in SIZES:
            forms = [Form("table", columns, [rows[at % len(rows)]]) for at in range(size)]
            while len(singles) < size and time.monotonic() < deadline:
                at = len(singles)
                singles.append(self._single(forms[at]) if at < ALONE else singles[at % len(rows)])
            if len(singles) < size:
                break
            self._compare(forms, singles)
            proven = size
        if proven < FEWEST:
            raise _Untried("it predicts too slowly to be tried")
        self._kinds = frozenset(single.kind for single in singles)
        self.most_rows = proven
        self.why = f"up to {proven} rows: so many were predicted as each was alone"

    def _single(self, form: Form) -> _Single:
        answer = self._ask([form])
        whole = self._scorer.jsonable(answer)
        if not isinstance(whole, list) or len(whole) != 1:
            raise _Untried("its answer is no list of one value a row")
        return _Single(_kind(answer), self._plain(whole)[0])

    def _compare(self, forms: Sequence[Form], singles: Sequence[_Single]) -> None:
        answer = self._ask(forms)
        whole = self._scorer.jsonable(answer)
        if not isinstance(whole, list) or len(whole) != len(forms):
            raise _Untried(f"it gives {len(forms)} rows another number of answers")
        plain = self._plain(whole)
        alone = [single.value for single in singles]
        differs = f"it answers {len(forms)} rows at once otherwise than each alone"
        if {single.kind for single in singles} != {_kind(answer)} or not _close(plain, alone):
            raise _Untried(differs)
        if self._is_exact and json.dumps(plain) != json.dumps(alone):
            raise _Untried(f"{differs}, in the last digits")

    def _ask(self, forms: Sequence[Form]) -> Any:
        return self._scorer.predict(self._scorer.question(join(forms), limited=False))

    def _plain(self, answers: list[Any]) -> list[Any]:
        """*answers* as a caller reads them: what is an array here has neither one truth nor one type."""
        read: list[Any] = json.loads(self._scorer.encode_jsonable(answers, bare=True))
        return read


@dataclass(frozen=True)
class _Single:
    """The answer to one row."""

    kind: str
    value: Any


class _Untried(Exception):
    """Rows are not predicted each by itself, or that cannot be seen, in the words for an operator."""


def _close(some: Any, other: Any) -> bool:
    """Whether two answers are the same but for the order in which a library summed numbers up."""
    if type(some) is not type(other):
        return False
    if isinstance(some, float):
        are_close = math.isclose(some, other, rel_tol=CLOSE, abs_tol=CLOSE**2)
        return are_close or (math.isnan(some) and math.isnan(other))
    if isinstance(some, list):
        return len(some) == len(other) and all(map(_close, some, other))
    if isinstance(some, dict):
        return some.keys() == other.keys() and all(_close(some[key], other[key]) for key in some)
    return bool(some == other)


def _alike(schema: Any) -> dict[str, frozenset[type]] | None:
    """By column what may be joined; None if that cannot be told for each."""
    if schema is None or schema.is_tensor_spec() or not schema.has_input_names():
        return None
    kinds = {spec.name: ALIKE.get(getattr(spec.type, "name", "")) for spec in schema.inputs}
    known = {name: kind for name, kind in kinds.items() if kind is not None}
    return known if len(known) == len(kinds) else None


def _form(document: dict[str, Any]) -> Form | None:
    if len(document) != 1:  # params, or what MLflow passes over
        return None
    if (split := document.get("dataframe_split")) is not None:
        return _form_of_split(split)
    for family, key in (("table", "dataframe_records"), ("instances", "instances")):
        if (records := document.get(key)) is not None:
            return _form_of_records(family, records)
    return None


def _form_of_split(split: Any) -> Form | None:
    if not isinstance(split, dict) or split.keys() - {"columns", "data", "index"}:
        return None
    columns, rows, index = split.get("columns"), split.get("data"), split.get("index")
    if not isinstance(columns, list) or not all(isinstance(name, str) for name in columns):
        return None
    if not isinstance(rows, list) or not all(
        isinstance(row, list) and len(row) == len(columns) for row in rows
    ):
        return None
    if len(set(columns)) != len(columns) or (index is not None and index != list(range(len(rows)))):
        return None
    return Form("table", tuple(columns), rows)


def _form_of_records(family: str, records: Any) -> Form | None:
    if not isinstance(records, list) or not records or not isinstance(records[0], dict):
        return None
    columns = list(records[0])
    if not all(isinstance(record, dict) and list(record) == columns for record in records):
        return None
    return Form(family, tuple(columns), [list(record.values()) for record in records])


def _is_alike(row: Sequence[Any], allowed: Sequence[frozenset[type]]) -> bool:
    """Whether each value of *row* is of an *allowed* type, and a number that is one."""
    return all(
        type(value) in kinds and not (type(value) is float and not math.isfinite(value))
        for value, kinds in zip(row, allowed, strict=True)
    )


def _various_rows(data: Any, alike: dict[str, frozenset[type]]) -> list[list[Any]]:
    """Rows of *data* in which every column has different values: what is the same throughout hides a model
    that sets a row against the others.

    Raises:
        _Untried: there are none, and nobody can make them up.
    """
    columns = [outputs.column(data, name) or [] for name in alike]
    if len(set(map(len, columns))) != 1:
        raise _Untried("the canary's input lacks columns")
    allowed = list(alike.values())
    rows = [list(row) for row in zip(*columns, strict=True) if _is_alike(row, allowed)]
    if not rows:
        raise _Untried("the canary's input has no row without gaps")
    constant = [len(set(values)) == 1 for values in zip(*rows, strict=True)]
    for name, value, is_constant in zip(alike, rows[0], constant, strict=True):
        if is_constant and isinstance(value, str):
            raise _Untried(
                f"the canary's input has only one text in column {name!r}; give it rows with others"
            )
    if any(constant):
        other = [_changed(value) if same else value for value, same in zip(rows[0], constant, strict=True)]
        rows.insert(1, other)
    return rows


def _changed(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    return value + 1 if isinstance(value, int) else value * 1.01 + 0.01


def _kind(answer: Any) -> str:
    """What is the same in answers that can be cut apart."""
    if isinstance(answer, pandas.DataFrame):
        return f"DataFrame {dict(answer.dtypes)}"
    dtype = getattr(answer, "dtype", None)
    kind = getattr(dtype, "kind", None)
    if kind in ("U", "S"):  # as wide as its longest text
        dtype = kind
    return f"{type(answer).__name__} {dtype}"
