"""The canary: a prediction that a version must pass before it serves, and at every check."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from . import outputs
from .example import document as example_document
from .example import is_guess
from .libraries import models, numpy
from .load_error import not_of_the_version
from .request import ModelInput, RequestRejected
from .scoring import JSON, Scorer, print_without_data

BAD_REQUEST = 400
NOT_BUILT = "no row for its canary can be made from its signature"
NO_INPUT = "it has no signature and no input example, and no canary input is configured"


class Canary:
    """Predicts for the daemon's input, else the model's example, else a row made from its signature.

    *options* have ``min`` and ``max`` for the predicted numbers.
    """

    def __init__(self, scorer: Scorer, folder: Path, options: dict[str, Any]) -> None:
        self._scorer = scorer
        self._folder = folder
        self._options = options

    def predict(self, configured: tuple[bytes, str] | None) -> tuple[dict[str, Any], ModelInput | None]:
        """Return the result for the daemon, and the input if the answer passed."""
        result: dict[str, Any] = {"passed": False, "verified": True, "source": "configured", "rows": None}
        try:
            found = configured or self._own(result)
            if found is None:
                return {**result, "passed": True, "verified": False, "reason": NO_INPUT}, None
            result["kind"] = "input" if configured else ""  # cleared once the input can be read
            request = self._scorer.read(*found, limited=False)
            result["kind"] = ""
            question = self._scorer.question(request, limited=False)
            reason = self._ask(question, result)
        except RequestRejected as rejection:
            if rejection.__cause__ is not None:
                print_without_data(rejection.__cause__)
            return self._failed(result, rejection, rejection.detail), None
        except Exception as error:  # noqa: BLE001  # third-party examples, signatures and answers may raise anything
            print_without_data(error)
            return self._failed(result, error, f"the model failed: {type(error).__name__}"), None
        return {**result, "passed": not reason, "reason": reason}, question if not reason else None

    def _failed(self, result: dict[str, Any], error: Exception, otherwise: str) -> dict[str, Any]:
        """Return *result* with its reason; a made-up row that does not fit proves nothing."""
        explained = self._explained(error, otherwise)
        if not explained.get("kind") and result["source"] == "synthesised" and self._is_unfit(result, error):
            reason = f"{NOT_BUILT} ({explained['reason']})"
            return {**result, "passed": True, "verified": False, "reason": reason}
        return {**result, **explained}

    def _is_unfit(self, result: dict[str, Any], error: Exception) -> bool:
        """Return whether the row was not built, was not the model's to answer, or only a guess."""
        is_callers = isinstance(error, RequestRejected) and error.code == BAD_REQUEST
        return "seconds" not in result or is_callers or is_guess(self._scorer.schema)

    def _explained(self, error: Exception, otherwise: str) -> dict[str, str]:
        """Return the reason, by default *otherwise*, and the kind of failure if this host is the cause."""
        known = not_of_the_version(error, self._folder, "make its canary prediction")
        return {"reason": otherwise} if known is None else {"kind": known.kind, "reason": known.reason}

    def _ask(self, question: ModelInput, result: dict[str, Any]) -> str:
        result["rows"] = question.rows
        if question.rows == 0:
            return "its input has no rows"
        began = time.perf_counter()
        try:
            answer = self._scorer.predict(question)
            self._scorer.encode(answer, bare=question.bare)
        finally:
            result["seconds"] = time.perf_counter() - began
        return self._judge(question, answer, result)

    def _own(self, result: dict[str, Any]) -> tuple[bytes, str] | None:
        if (example := self._example()) is not None:
            result["source"] = "example"
            return example, JSON
        if self._scorer.schema is not None:
            result["source"] = "synthesised"
            return json.dumps(example_document(self._scorer.schema, self._scorer.ranges)).encode(), JSON
        result["source"] = "none"
        return None

    def _example(self) -> bytes | None:
        info = self._scorer.model.metadata.saved_input_example_info
        if info is None:
            return None
        if (path := info.get("serving_input_path")) is not None:  # written since MLflow 2.15
            return Path(self._folder, path).read_bytes()
        example = self._scorer.model.input_example
        if example is None:
            return None
        written: str = models.convert_input_example_to_serving_input(example)
        return written.encode()

    def _judge(self, question: ModelInput, answer: Any, result: dict[str, Any]) -> str:
        """Return the fault of *answer*; "" if there is none."""
        answered = None if question.bare else outputs.rows(answer)
        if question.rows is not None and answered is not None and answered != question.rows:
            return f"{answered} rows were answered to {question.rows}"
        if outputs.is_nothing(answer):
            return "it answered nothing but nulls"
        return self._judge_numbers(outputs.leaves(answer).joined(), result, answered)

    def _judge_numbers(self, numbers: Any, result: dict[str, Any], rows: int | None) -> str:
        if not numpy.isfinite(numbers).all():
            return _not_finite_text(numbers, "rows" if len(numbers) == rows else "numbers")
        if not len(numbers):
            limited = self._options["min"] is not None or self._options["max"] is not None
            return "it predicted no number, and a minimum or maximum is configured" if limited else ""
        low, high = float(numbers.min()), float(numbers.max())
        result["minimum"], result["maximum"] = low, high
        if self._options["min"] is not None and low < self._options["min"]:
            return f"it predicted {low:g}, below the configured minimum {self._options['min']:g}"
        if self._options["max"] is not None and high > self._options["max"]:
            return f"it predicted {high:g}, above the configured maximum {self._options['max']:g}"
        return ""


def _not_finite_text(numbers: Any, what: str) -> str:
    """Return which values of *numbers* are none, and how many: ``NaN in 2 of 2 rows``."""
    found = {"NaN": numpy.isnan(numbers).any(), "infinity": numpy.isinf(numbers).any()}
    values = " and ".join(name for name, is_there in found.items() if is_there)
    return f"{values} in {int((~numpy.isfinite(numbers)).sum())} of {len(numbers)} {what}"
