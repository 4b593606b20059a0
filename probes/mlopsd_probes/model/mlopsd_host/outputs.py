"""Read columns, rows, numbers and classes from a model's input or answer."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from .libraries import numpy, pandas

LONGEST_CLASS = 64  # characters; a longer text is not a class


@dataclass
class Leaves:
    """The single values of an answer.

    Attributes:
        numbers: arrays of floats.
        classes: the count of each text, truth value or whole number.
    """

    numbers: list[Any] = field(default_factory=list)
    classes: Counter[str] = field(default_factory=Counter)

    def joined(self) -> Any:
        """Return all numbers in one array."""
        return numpy.concatenate([numpy.empty(0), *self.numbers])


def leaves(answer: Any) -> Leaves:
    """Return the single values of *answer*."""
    found = Leaves()
    _collect(answer, found)
    return found


def _collect(answer: Any, found: Leaves) -> None:
    if isinstance(answer, numpy.ndarray):
        _collect_array(answer, found)
    elif isinstance(answer, pandas.DataFrame):
        for _, column in answer.items():
            _collect_array(column.to_numpy(), found)
    elif isinstance(answer, pandas.Series):
        _collect_array(answer.to_numpy(), found)
    elif isinstance(answer, (str, bool, numpy.bool_)):
        found.classes[_class(answer)] += 1
    elif isinstance(answer, (int, float, numpy.number)) and not isinstance(answer, complex):
        _collect_array(numpy.asarray([answer]), found)
    elif isinstance(answer, dict):
        for value in answer.values():
            _collect(value, found)
    elif isinstance(answer, (list, tuple)):
        _collect_list(answer, found)


def _collect_list(answer: Sequence[Any], found: Leaves) -> None:
    kinds = set(map(type, answer))
    if kinds and kinds <= {int, float}:
        array = numpy.asarray(answer)
        if array.dtype.kind == "O":  # whole numbers beyond 64 bits
            array = numpy.asarray(list(map(_float, answer)))
        _collect_array(array, found)
        return
    for value in answer:
        _collect(value, found)


def _float(number: float) -> float:
    try:
        return float(number)
    except OverflowError:  # a whole number too large for a float
        return math.inf


def _collect_array(array: Any, found: Leaves) -> None:
    kind = array.dtype.kind
    if kind == "f":
        found.numbers.append(array.ravel())
    elif kind in "iu":
        found.numbers.append(array.ravel().astype(float))
        _count(array, found)
    elif kind == "b":
        _count(array, found)
    elif kind in "OUT":
        _collect_list(array.ravel().tolist(), found)


def _count(array: Any, found: Leaves) -> None:
    values, counts = numpy.unique(array, return_counts=True)
    for value, count in zip(values.tolist(), counts.tolist(), strict=True):
        found.classes[_class(value)] += count


def _class(value: Any) -> str:
    text = str(value)
    return text if len(text) <= LONGEST_CLASS else "other"


def rows(answer: Any) -> int | None:
    """Count the rows of *answer*; return None if it is not a table, array or list."""
    if isinstance(answer, numpy.ndarray):
        return int(answer.shape[0]) if answer.ndim else None
    if isinstance(answer, (pandas.DataFrame, pandas.Series, list, tuple)):
        return len(answer)
    if isinstance(answer, dict):
        lengths = {rows(value) for value in answer.values()}
        return lengths.pop() if len(lengths) == 1 else None
    return None


def is_nothing(answer: Any) -> bool:
    """Return whether *answer* has no value at all, as from a model without a return statement."""
    if isinstance(answer, pandas.DataFrame):
        return all(is_nothing(column) for _, column in answer.items())
    if isinstance(answer, (numpy.ndarray, pandas.Series)):
        return answer.dtype.kind == "O" and is_nothing(answer.tolist())
    if isinstance(answer, dict):
        return all(map(is_nothing, answer.values()))
    if isinstance(answer, (list, tuple)):
        return all(map(is_nothing, answer))
    return answer is None


def column(data: Any, name: str) -> list[Any] | None:
    """Return the values of the column *name* of the parsed *data*; None if there is no such column."""
    if isinstance(data, pandas.DataFrame):
        found = [data.iloc[:, at] for at, label in enumerate(data.columns) if label == name]
        return [value for series in found for value in series.tolist()] if found else None
    if isinstance(data, dict) and name in data:
        return list(_flat(data[name]))
    if isinstance(data, list) and any(isinstance(record, dict) and name in record for record in data):
        return [value for record in data if isinstance(record, dict) for value in _flat(record.get(name))]
    return None


def _flat(value: Any) -> Iterator[Any]:
    value = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, (list, tuple)):
        for part in value:
            yield from _flat(part)
    else:
        yield value
