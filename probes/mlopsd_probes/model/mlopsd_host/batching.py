"""Batch waiting requests, if the model predicts each row by itself.

A batch of a hundred rows costs about as much as one row. Batching needs three conditions:

- The library predicts row by row (`rowwise`), or the operator has set ``batching = "on"``.
- A trial gave the same answers for a batch and for single rows.
- Samples of real traffic give the same answers; the first difference ends batching for good.

Each request must get the answer that it would get alone. So a batch has only requests with the same columns,
whose JSON values pandas converts independently of other rows. It has at most as many rows as the trial.
Some libraries sum floats in another order for more rows; then answers agree to a millionth.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .batchable import Batchable, NotBatchable, alike_of, form_of, is_alike, join
from .libraries import pandas
from .request import ModelInput, Request
from .rowwise import why_rows_may_depend
from .scoring import JSON, Scorer
from .trial_rows import various_rows

# Rows of the trial's batches; odd sizes reach the remainder loops of vectorised code.
SIZES = (2, 3, 5, 8, 13, 21, 34, 64, 256, 1024, 2048)
ALONE = 64  # rows that are predicted one by one; larger batches repeat them
SAMPLE_SECONDS = 1.0  # longest extra wait of callers whose batch is a sample
SAMPLED = 100  # the first of so many batches is also predicted row by row
MISMATCH = "off: requests that were predicted together were answered otherwise than each alone"
FEWEST = 3  # least number of rows in a trial
CLOSE = 1e-6  # relative; single-precision sums in another order differ by less


class Batcher:
    """Decides which requests can be batched.

    Attributes:
        most_rows: the largest batch in rows; 0 means off.
        why: the reason, for an operator.
    """

    def __init__(self, scorer: Scorer, wanted: str, *, mismatched: bool) -> None:
        self._scorer = scorer
        self._is_exact = wanted == "exact"
        self._joined = 0  # batches so far
        self._alike = alike_of(scorer.schema)
        self._required = set(scorer.schema.required_input_names()) if self._alike is not None else set()
        self._kinds: frozenset[str] = frozenset()
        self.most_rows = 0
        why_off = MISMATCH if mismatched and wanted != "off" else self._why_off(wanted)
        self.is_open = why_off is None  # whether the trial is still to come
        self.why = why_off or "off: not tried yet"

    def _why_off(self, wanted: str) -> str | None:
        if wanted == "off":
            return "off: the configuration says so"
        if self._alike is None:
            return "off: the model's signature has no plain named columns"
        if wanted != "on" and (reason := why_rows_may_depend(self._scorer.model)) is not None:
            return f"off: {reason}"
        return None

    def form(self, request: Request) -> Batchable | None:
        """Return *request* as a table for a batch; None if it cannot be batched."""
        if not self.most_rows or request.mime != JSON or not request.rows or request.rows > self.most_rows:
            return None
        form = form_of(request.document)
        if (
            form is None
            or self._alike is None
            or not self._required <= set(form.columns) <= self._alike.keys()
        ):
            return None
        allowed = [self._alike[name] for name in form.columns]
        return form if all(is_alike(row, allowed) for row in form.rows) else None

    def parts(self, answer: Any, sizes: Sequence[int]) -> list[Any] | None:
        """Split the *answer* to a batch by request; return None if it has another form than in the trial."""
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

    def is_mismatch(self, forms: Sequence[Batchable], answer: Any, parts: Sequence[list[Any]]) -> bool:
        """Return whether *parts* of *answer* differ from the answers to single rows; then end batching.

        Check only the first of `SAMPLED` batches: at most `ALONE` rows, for about `SAMPLE_SECONDS`.

        Raises:
            Exception: the prediction of a single row failed. This proves nothing about batching, so the
                next batch is the sample instead.
        """
        if self._joined % SAMPLED == 0 and self._differs(forms, answer, parts):
            return self._end()
        self._joined += 1
        return False

    def _differs(self, forms: Sequence[Batchable], answer: Any, parts: Sequence[list[Any]]) -> bool:
        columns, family = forms[0].columns, forms[0].family
        deadline = time.monotonic() + SAMPLE_SECONDS
        for place, (at, row) in enumerate(_spread([len(form.rows) for form in forms])):
            if place >= FEWEST and time.monotonic() >= deadline:
                break
            answered = self._plain([parts[at][row]])
            try:
                single = self._single(Batchable(family, columns, [forms[at].rows[row]]))
            except NotBatchable:  # the answer has another form than in the trial
                return True
            if single.kind != _kind(answer) or not self._same(answered, [single.value]):
                return True
        return False

    def _end(self) -> bool:
        self.most_rows = 0
        self.why = MISMATCH
        return True

    def _same(self, some: Any, other: Any) -> bool:
        return _close(some, other) and (not self._is_exact or json.dumps(some) == json.dumps(other))

    def verify(self, question: ModelInput, seconds: float) -> None:
        """Try for about *seconds* whether the model predicts each row of *question* by itself."""
        self.is_open = False
        try:
            self._try(various_rows(question.data, self._alike or {}, ALONE), time.monotonic() + seconds)
        except NotBatchable as reason:
            self.why = f"off: {reason}"
        except Exception:  # noqa: BLE001  # from the model, or from comparing its answer
            self.why = "off: the model failed when it was tried"

    def _try(self, rows: list[list[Any]], deadline: float) -> None:
        columns = tuple(self._alike or {})
        left = iter([Batchable("table", columns, [row]) for row in rows])
        alone: list[tuple[Batchable, _Single]] = []
        proven = 0
        for size in SIZES:
            while len(alone) < min(size, ALONE) and time.monotonic() < deadline:
                if (form := next(left, None)) is None:
                    break
                if (single := self._tried(form, is_needed=not alone)) is not None:
                    alone.append((form, single))
            if len(alone) < size and time.monotonic() >= deadline:
                break
            chosen = [alone[at % len(alone)] for at in range(size)]
            self._compare([form for form, _ in chosen], [single for _, single in chosen])
            proven = size
        if proven < FEWEST:
            raise NotBatchable("it predicts too slowly to be tried")
        self._kinds = frozenset(single.kind for _, single in alone)
        self.most_rows = proven
        self.why = f"up to {proven} rows: so many were predicted as each was alone"

    def _tried(self, form: Batchable, *, is_needed: bool) -> _Single | None:
        """Return the answer to *form*; None if it is not needed and the model rejects a made-up row."""
        try:
            return self._single(form)
        except NotBatchable:
            raise
        except Exception:  # a model may raise anything for a made-up row
            if is_needed:
                raise
            return None

    def _single(self, form: Batchable) -> _Single:
        answer = self._ask([form])
        whole = self._scorer.jsonable(answer)
        if not isinstance(whole, list) or len(whole) != 1:
            raise NotBatchable("its answer is no list of one value a row")
        return _Single(_kind(answer), self._plain(whole)[0])

    def _compare(self, forms: Sequence[Batchable], singles: Sequence[_Single]) -> None:
        answer = self._ask(forms)
        whole = self._scorer.jsonable(answer)
        if not isinstance(whole, list) or len(whole) != len(forms):
            raise NotBatchable(f"it gives {len(forms)} rows another number of answers")
        plain = self._plain(whole)
        alone = [single.value for single in singles]
        differs = f"it answers {len(forms)} rows at once otherwise than each alone"
        if {single.kind for single in singles} != {_kind(answer)} or not _close(plain, alone):
            raise NotBatchable(differs)
        if not self._same(plain, alone):
            raise NotBatchable(f"{differs}, in the last digits")

    def _ask(self, forms: Sequence[Batchable]) -> Any:
        return self._scorer.predict(self._scorer.question(join(forms), limited=False))

    def _plain(self, answers: list[Any]) -> list[Any]:
        """Return *answers* as JSON values: arrays have no single truth value or type to compare."""
        read: list[Any] = json.loads(self._scorer.encode_jsonable(answers, bare=True))
        return read


@dataclass(frozen=True)
class _Single:
    """The answer to one row."""

    kind: str
    value: Any


def _close(some: Any, other: Any) -> bool:
    """Return whether two answers are equal except for the order of summation."""
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


def _spread(sizes: Sequence[int]) -> list[tuple[int, int]]:
    """Return the places of at most `ALONE` rows, as (request, row).

    The first row of each request comes first, then each second row, and so on.
    """
    places = sorted(
        ((at, row) for at, size in enumerate(sizes) for row in range(min(size, ALONE))),
        key=lambda place: place[1],
    )
    if len(sizes) <= ALONE:
        return places[:ALONE]
    return [(at * len(sizes) // ALONE, 0) for at in range(ALONE)]


def _kind(answer: Any) -> str:
    """Return the traits that two answers must share to be compared."""
    if isinstance(answer, pandas.DataFrame):
        return f"DataFrame {dict(answer.dtypes)}"
    dtype = getattr(answer, "dtype", None)
    kind = getattr(dtype, "kind", None)
    if kind in ("U", "S"):  # as wide as its longest text
        dtype = kind
    return f"{type(answer).__name__} {dtype}"
