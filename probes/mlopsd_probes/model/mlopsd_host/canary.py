"""The prediction that a version makes before it serves, and now and then while it does."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from . import outputs, synthesis
from .libraries import models, numpy
from .refused import Refused
from .scoring import CSV, JSON, Question, Scorer

NO_INPUT = "it has no signature and no input example, and no canary input is configured"


class Canary:
    """Predicts for the configured input, else the model's example, else what its signature allows.

    *options* are ``input`` (a path), ``min`` and ``max``.
    """

    def __init__(self, scorer: Scorer, folder: Path, options: dict[str, Any]) -> None:
        self._scorer = scorer
        self._folder = folder
        self._options = options

    def predict(self) -> tuple[dict[str, Any], Question | None]:
        """What came of it, for the daemon, and the question where it was answered well."""
        result: dict[str, Any] = {"passed": False, "verified": True, "source": "none", "rows": None}
        try:
            if (found := self._input(result)) is None:
                return {**result, "passed": True, "verified": False, "reason": NO_INPUT, "seconds": 0.0}, None
            question = self._scorer.question(self._scorer.read(*found, limited=False), limited=False)
            result["rows"] = question.rows
            began = time.perf_counter()
            try:
                answer = self._scorer.predict(question)
                self._scorer.encode(answer, bare=question.bare)
            finally:
                result["seconds"] = time.perf_counter() - began
            reason = self._judge(question, answer, result)
        except Refused as refusal:
            return {**result, "reason": refusal.detail}, None
        return {**result, "passed": not reason, "reason": reason}, question if not reason else None

    def _input(self, result: dict[str, Any]) -> tuple[bytes, str] | None:
        if (path := self._options["input"]) is not None:
            result["source"] = "configured"
            return _read(Path(path)), CSV if path.endswith(".csv") else JSON
        if (example := self._example()) is not None:
            result["source"] = "example"
            return example, JSON
        if self._scorer.schema is not None:
            result["source"] = "synthesised"
            return json.dumps(synthesis.document(self._scorer.schema, self._scorer.ranges)).encode(), JSON
        return None

    def _example(self) -> bytes | None:
        info = self._scorer.model.metadata.saved_input_example_info
        if info is None:
            return None
        if (path := info.get("serving_input_path")) is not None:  # written since MLflow 2.15
            return _read(self._folder / path)
        example = self._scorer.model.input_example
        if example is None:
            return None
        written: str = models.convert_input_example_to_serving_input(example)
        return written.encode()

    def _judge(self, question: Question, answer: Any, result: dict[str, Any]) -> str:
        """What is wrong with *answer*; nothing if it is well."""
        answered = None if question.bare else outputs.rows(answer)
        if question.rows is not None and answered is not None and answered != question.rows:
            return f"{answered} rows were answered to {question.rows}"
        numbers = outputs.leaves(answer).joined()
        if not numpy.isfinite(numbers).all():
            return f"{int((~numpy.isfinite(numbers)).sum())} of {len(numbers)} numbers are NaN or infinite"
        if not len(numbers):
            return ""
        low, high = float(numbers.min()), float(numbers.max())
        result["minimum"], result["maximum"] = low, high
        if self._options["min"] is not None and low < self._options["min"]:
            return f"it predicted {low:g}, below the configured minimum {self._options['min']:g}"
        if self._options["max"] is not None and high > self._options["max"]:
            return f"it predicted {high:g}, above the configured maximum {self._options['max']:g}"
        return ""


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Refused(400, f"its input {path} cannot be read: {error.strerror}") from error
