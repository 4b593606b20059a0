"""The rules for the answer of a canary: how many rows, which numbers, and a golden answer."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

from . import outputs
from .libraries import numpy, pandas
from .request import ModelInput
from .rowwise import LIBRARIES, PREDICTS
from .scoring import Scorer

TABLE = "[…canary]"
MOST_DIFFERENCES = 3  # named in one reason


class CanaryRules:
    """Judges answers by *options*; an option that is None is chosen for the model.

    A library that predicts row by row must answer as many rows as it is given. Other models need not: a
    detector finds seven boxes in one picture. A column may hold NaN if the signature's outputs mark it as
    optional. MLflow marks a column that had gaps in the output for the logged example.
    """

    def __init__(self, scorer: Scorer, options: dict[str, Any]) -> None:
        self._scorer = scorer
        self._options = options
        self._optional = _optional_outputs(scorer.model)
        self._rows = options["rows"] or ("same" if _is_rowwise(scorer.model) else "any")
        self._nan = options["nan"] or ("columns" if self._optional else "reject")

    def judge(self, question: ModelInput, answer: Any, result: dict[str, Any]) -> str:
        """Return the fault of *answer* and the key that allows it; "" if there is none."""
        answered = None if question.bare else outputs.rows(answer)
        result["answered"] = answered
        if self._options["empty"] != "accept" and (answered == 0 or outputs.is_nothing(answer)):
            what = "no row" if answered == 0 else "nothing but nulls"
            return _allowed(f"it answered {what}", "empty", "accept")
        if self._rows == "same" and None not in (question.rows, answered) and answered != question.rows:
            return _allowed(f"{answered} rows were answered to {question.rows}", "rows", "any")
        if self._nan != "any" and (fault := self._not_finite(answer, answered)):
            return fault
        return self._judge_range(outputs.leaves(answer).joined(), result)

    def judge_expected(self, answer: Any, wanted: Any) -> str:
        """Return where *answer* differs from *wanted*, a JSON value; "" if it does not."""
        found = json.loads(self._scorer.encode_jsonable(self._scorer.jsonable(answer), bare=True))
        if isinstance(wanted, dict) and set(wanted) == {"predictions"}:  # the body of a 200, as it is
            wanted = wanted["predictions"]
        differences = _differences(found, wanted, self._options["tolerance"], "")
        named = [one for _, one in zip(range(MOST_DIFFERENCES), differences, strict=False)]
        return f"it differs from {TABLE} expect: {'; '.join(named)}" if named else ""

    def _not_finite(self, answer: Any, rows: int | None) -> str:
        for name, values in _columns(answer):
            if numpy.isfinite(values).all() or (self._nan == "columns" and self._may_lack(name, values)):
                continue
            text = _not_finite_text(values, "rows" if len(values) == rows else "numbers")
            where = f" of column {name!r}" if name is not None else ""
            return _allowed(text + where, "nan", "any")
        return ""

    def _may_lack(self, name: Any, values: Any) -> bool:
        if numpy.isinf(values).any():
            return False
        return name in self._optional if self._optional else bool(numpy.isfinite(values).any())

    def _judge_range(self, numbers: Any, result: dict[str, Any]) -> str:
        low, high = self._options["min"], self._options["max"]
        finite = numbers[numpy.isfinite(numbers)]
        if not len(finite):
            limited = low is not None or high is not None
            return "it predicted no number, and a minimum or maximum is configured" if limited else ""
        result["minimum"], result["maximum"] = float(finite.min()), float(finite.max())
        if low is not None and result["minimum"] < low:
            return f"it predicted {result['minimum']:g}, below the configured minimum {low:g}"
        if high is not None and result["maximum"] > high:
            return f"it predicted {result['maximum']:g}, above the configured maximum {high:g}"
        return ""


def _allowed(fault: str, name: str, value: str) -> str:
    return f'{fault}; if this is right, set {TABLE} {name} = "{value}"'


def _is_rowwise(model: Any) -> bool:
    loader = str(model.loader_module)
    if loader not in LIBRARIES:
        return False
    return str(model.metadata.flavors["python_function"].get("predict_fn", "predict")) in PREDICTS


def _optional_outputs(model: Any) -> frozenset[Any]:
    """Return the names of the output columns that the signature marks as optional."""
    schema = model.metadata.get_output_schema()
    if schema is None or schema.is_tensor_spec():
        return frozenset()
    return frozenset(spec.name for spec in schema.inputs if not getattr(spec, "required", True))


def _columns(answer: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the name and the numbers of each column of *answer*; None as the name of all other numbers."""
    if isinstance(answer, pandas.DataFrame):
        yield from ((name, outputs.leaves(column).joined()) for name, column in answer.items())
    elif isinstance(answer, dict):
        yield from ((name, outputs.leaves(value).joined()) for name, value in answer.items())
    elif isinstance(answer, list) and answer and all(isinstance(row, dict) for row in answer):
        for name in dict.fromkeys(name for row in answer for name in row):
            yield name, outputs.leaves([row[name] for row in answer if name in row]).joined()
    else:
        yield None, outputs.leaves(answer).joined()


def _not_finite_text(numbers: Any, what: str) -> str:
    """Return which values of *numbers* are none, and how many: ``NaN in 2 of 2 rows``."""
    found = {"NaN": numpy.isnan(numbers).any(), "infinity": numpy.isinf(numbers).any()}
    values = " and ".join(name for name, is_there in found.items() if is_there)
    return f"{values} in {int((~numpy.isfinite(numbers)).sum())} of {len(numbers)} {what}"


def _differences(found: Any, wanted: Any, tolerance: float, path: str) -> Iterator[str]:
    """Yield where *found* and *wanted*, two JSON values, differ. Numbers may differ by *tolerance*."""
    at = path or "the answer"
    if _is_number(found) and _is_number(wanted):
        is_same = found == wanted or (math.isnan(found) and math.isnan(wanted))
        if not is_same and not abs(found - wanted) <= tolerance * max(1, abs(wanted)):
            yield f"{at} is {found:g} and not {wanted:g}"
    elif isinstance(found, dict) and isinstance(wanted, dict):
        for name in sorted(found.keys() ^ wanted.keys(), key=str):
            yield f"{path}/{name} is {'missing' if name in wanted else 'not expected'}"
        for name in wanted.keys() & found.keys():
            yield from _differences(found[name], wanted[name], tolerance, f"{path}/{name}")
    elif isinstance(found, list) and isinstance(wanted, list):
        yield from _differences_of_lists(found, wanted, tolerance, path)
    elif found != wanted or isinstance(found, bool) != isinstance(wanted, bool):
        yield f"{at} is {found!r:.60} and not {wanted!r:.60}"


def _differences_of_lists(
    found: Sequence[Any], wanted: Sequence[Any], tolerance: float, path: str
) -> Iterator[str]:
    if len(found) != len(wanted):
        yield f"{path or 'the answer'} has {len(found)} values and not {len(wanted)}"
        return
    for at, (one, other) in enumerate(zip(found, wanted, strict=True)):
        yield from _differences(one, other, tolerance, f"{path}/{at}")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
