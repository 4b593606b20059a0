"""The canary: a prediction that a version must pass before it serves, and at every check."""

from __future__ import annotations

import json
import time
import traceback
from pathlib import Path
from typing import Any

from .canary_rules import CanaryRules
from .example import document as example_document
from .example import is_guess, without_optional
from .libraries import models
from .load_error import not_of_the_version
from .request import ModelInput, RequestRejected
from .scoring import JSON, MOST_FRAMES, Scorer, print_without_data

BAD_REQUEST = 400
NOTHING = object()  # no answer is expected; None is JSON's null
LONGEST_WORDS = 300  # characters
NOT_BUILT = "no row for its canary can be made from its signature"
NO_INPUT = "it has no signature and no input example, and no canary input is configured"


class Canary:
    """Predicts for the daemon's input, else the model's example, else a row made from its signature.

    *options* are those of its `rules`, which callers' answers are judged by too.
    """

    def __init__(self, scorer: Scorer, folder: Path, options: dict[str, Any]) -> None:
        self._scorer = scorer
        self._folder = folder
        self.rules = CanaryRules(scorer, options)

    def predict(
        self, configured: tuple[bytes, str] | None, expected: bytes = b""
    ) -> tuple[dict[str, Any], ModelInput | None]:
        """Return the result for the daemon, and the input if the answer passed.

        An example that fails is tried again without its optional fields. *expected* is the golden answer, if
        there is one.
        """
        try:
            wanted = json.loads(expected) if expected else NOTHING
        except (ValueError, RecursionError):
            reason = "its expected answer is no JSON"
            result = {"passed": False, "verified": True, "source": "configured", "kind": "input"}
            return {**result, "reason": reason}, None
        result, question, example = self._tried(configured, wanted)
        if result["passed"] or result["source"] != "example" or example is None:
            return result, question
        less, left_out = without_optional(example, self._scorer.schema)
        if not left_out:
            return result, question
        again, question, _ = self._tried((less, JSON), wanted)
        again |= {"source": "example", "left_out": left_out}
        return (again, question) if again["passed"] else (result, None)

    def _tried(
        self, given: tuple[bytes, str] | None, wanted: Any
    ) -> tuple[dict[str, Any], ModelInput | None, bytes | None]:
        """Return the result, the input if its answer passed, and the model's own example."""
        result: dict[str, Any] = {"passed": False, "verified": True, "source": "configured", "rows": None}
        example = None
        try:
            found = given or self._own(result)
            if found is None:
                return {**result, "passed": True, "verified": False, "reason": NO_INPUT}, None, None
            example = found[0] if result["source"] == "example" else None
            result["kind"] = "input" if given else ""  # cleared once the input can be read
            request = self._scorer.read(*found, limited=False)
            result["kind"] = ""
            question = self._scorer.question(request, limited=False)
            reason = self._ask(question, wanted, result)
        except RequestRejected as rejection:
            cause = rejection.__cause__
            words = rejection.detail if cause is None else self._words(cause, result, rejection.detail)
            return self._failed(result, rejection, words), None, example
        except Exception as error:  # noqa: BLE001  # third-party examples, signatures and answers may raise anything
            words = self._words(error, result, f"the model failed: {type(error).__name__}")
            return self._failed(result, error, words), None, example
        return {**result, "passed": not reason, "reason": reason}, question if not reason else None, example

    def _words(self, error: BaseException, result: dict[str, Any], otherwise: str) -> str:
        """Return the reason with the text of *error*, if that can only quote the model's own example."""
        if result["source"] == "configured":  # an operator's rows, and perhaps somebody's data
            print_without_data(error)
            return otherwise
        traceback.print_exception(error, limit=-MOST_FRAMES)
        first, *_ = str(error).strip().splitlines() or [""]
        return f"{otherwise}: {first[:LONGEST_WORDS]}" if first else otherwise

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

    def _ask(self, question: ModelInput, wanted: Any, result: dict[str, Any]) -> str:
        result["rows"] = question.rows
        if question.rows == 0:
            return "its input has no rows"
        began = time.perf_counter()
        try:
            answer = self._scorer.predict(question)
            self._scorer.encode(answer, bare=question.bare)
        finally:
            result["seconds"] = time.perf_counter() - began
        return self.rules.judge(question, answer, result) or (
            "" if wanted is NOTHING else self.rules.judge_expected(answer, wanted)
        )

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
