"""The scoring protocol of ``mlflow models serve``, with MLflow's own functions.

Unlike that server, this does not quote the request in errors or blame the caller for the model's fault.
"""

from __future__ import annotations

import io
import json
import math
import sys
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

from . import diagnosis, outputs
from .host_fault import host_fault
from .libraries import proto_json_utils, scoring_server
from .request import ModelInput, Request, RequestRejected

JSON, CSV, PARQUET = "application/json", "text/csv", "application/vnd.apache.parquet"
INVALID = "INVALID_PARAMETER_VALUE"  # of MLflow, for what a caller gave
MOST_FRAMES = 30  # innermost frames of a traceback; an endless recursion has a thousand equal ones
FORMATS = ("dataframe_split", "dataframe_records", "instances", "inputs")

Ranges = Mapping[str, Sequence["float | None"]]


class Scorer:
    """Reads requests, asks the model and writes answers; *ranges* are allowed values by feature."""

    def __init__(self, model: Any, most_rows: int, ranges: Ranges) -> None:
        self.model = model
        self.schema: Any = model.metadata.get_input_schema()
        self._most_rows = most_rows
        self.ranges = ranges
        self._hinted = bool(getattr(model.metadata, "_is_signature_from_type_hint", bool)())

    def read(self, body: bytes, content_type: str, *, limited: bool = True) -> Request:
        """Return the request in *body*; with *limited*, reject too many rows.

        Raises:
            RequestRejected: 415, 400 or 413, for the caller.
        """
        mime = _mime(content_type)
        if mime == JSON:
            request = self._read_json(body)
        elif mime == CSV:
            request = Request(CSV, _text(body), None)
        else:
            request = Request(PARQUET, body, None)
        if limited:
            self._limit(request.rows)
        return request

    def question(self, request: Request, *, limited: bool = True) -> ModelInput:
        """Return *request* as the model's input; with *limited*, apply the limits for callers.

        Raises:
            RequestRejected: 400 or 413, for the caller.
        """
        question = self._parsed(request)
        if limited:
            self._limit(question.rows)
            self._check_ranges(question)
        return question

    def check_range(self, feature: str, values: Sequence[Any] | None) -> None:
        """Check that each of *values* is in the range of *feature*, if it has one.

        Raises:
            RequestRejected: 400; the text names feature, row and range, not the value.
        """
        if values is None or feature not in self.ranges:
            return
        low, high = self.ranges[feature]
        for row, value in enumerate(values, 1):
            if not _holds(value, low, high):
                allowed = _range_text(low, high)
                raise RequestRejected(
                    400, f"feature {feature!r} in row {row} of {len(values)} must be {allowed}"
                )

    def predict(self, question: ModelInput) -> Any:
        """Return the answer of the model.

        Raises:
            RequestRejected: 400 if the input does not fit this model, else 500; from the model's exception,
                unless the input alone is at fault.
        """
        try:
            return self.model.predict(question.data, params=question.params)
        except BaseException as error:  # third-party code, which may also call sys.exit
            if fault := diagnosis.of_question(
                self.model, question.data, question.params, error, hinted=self._hinted
            ):
                raise RequestRejected(400, fault) from None
            raise self._rejection(error) from error

    def _rejection(self, error: BaseException) -> RequestRejected:
        """Return the answer to a caller whose input *error* was raised for.

        MLflow's server calls every exception the caller's mistake. Here it is that if the model says so with
        MLflow's own code. Without a signature nobody else checks the input; so it counts there too, unless
        this host or a file is at fault.
        """
        name = type(error).__name__
        if getattr(error, "error_code", None) == INVALID:
            return RequestRejected(400, f"the model rejects this input ({name}: {INVALID})")
        is_unsigned = self.schema is None and not self._hinted
        is_of_input = isinstance(error, Exception) and not isinstance(error, OSError)
        if is_unsigned and is_of_input and host_fault(error) is None:
            return RequestRejected(400, f"the model has no signature, and failed for this input: {name}")
        return RequestRejected(500, f"the model failed: {name}")

    def encode(self, answer: Any, *, bare: bool) -> bytes:
        """Return the body of a 200.

        Raises:
            RequestRejected: 500; *answer* cannot be written as JSON.
        """
        return self.encode_jsonable(self.jsonable(answer), bare=bare)

    def jsonable(self, answer: Any) -> Any:
        """Convert *answer* to JSON values, with one element per row for tables, arrays and lists."""
        return proto_json_utils._get_jsonable_obj(answer, pandas_orient="records")  # noqa: SLF001  # as MLflow's server

    def encode_jsonable(self, answer: Any, *, bare: bool) -> bytes:
        """Return the body, see `encode`; ``json.dumps`` is five times as fast as MLflow's ``json.dump``."""
        wrapped = answer if bare else {"predictions": answer}
        try:
            return json.dumps(wrapped, cls=proto_json_utils.NumpyEncoder).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise RequestRejected(500, "the model failed: its answer cannot be written as JSON") from error

    def _read_json(self, body: bytes) -> Request:
        try:
            document = json.loads(body)
        except json.JSONDecodeError as error:
            where = f"line {error.lineno} column {error.colno}"
            raise RequestRejected(400, f"the body is no JSON: {error.msg} at {where}") from None
        except (
            ValueError,
            RecursionError,
        ) as error:  # not UTF-8, a number of thousands of digits, or too deep
            raise RequestRejected(400, f"the body is no JSON: {type(error).__name__}") from None
        if not isinstance(document, dict):
            raise RequestRejected(400, f"the body must be a JSON object with one of {', '.join(FORMATS)}")
        if scoring_server.is_unified_llm_input(document):
            return Request(JSON, document, None)
        keys = [key for key in FORMATS if key in document]
        if len(keys) != 1:
            found = f"it has {' and '.join(keys)}" if keys else "it has none of them"
            raise RequestRejected(400, f"the body must have exactly one of {', '.join(FORMATS)}; {found}")
        if self._hinted and keys != ["inputs"]:
            raise RequestRejected(
                400, "the body must have 'inputs': this model takes what its type hint says"
            )
        return Request(JSON, document, _rows(keys[0], document[keys[0]]))

    def _parsed(self, request: Request) -> ModelInput:
        try:
            if request.mime == JSON:
                parsed = scoring_server._parse_json_data(  # noqa: SLF001  # as MLflow's server
                    dict(request.document), self.model.metadata, self.schema
                )
                return ModelInput(parsed.data, parsed.params, parsed.is_unified_llm_input, request.rows)
            if request.mime == CSV:
                data = scoring_server.parse_csv_input(io.StringIO(request.document), self.schema)
            else:
                data = scoring_server.parse_parquet_input(io.BytesIO(request.document))
        except Exception as error:  # noqa: BLE001  # MLflow and pandas may raise anything
            raise RequestRejected(400, diagnosis.of_request(request, self.schema, error)) from None
        return ModelInput(data, None, bare=False, rows=len(data))

    def _check_ranges(self, question: ModelInput) -> None:
        try:
            for feature in self.ranges:
                self.check_range(feature, outputs.column(question.data, feature))
        except RequestRejected:
            self._reject_misfit(question)
            raise

    def _reject_misfit(self, question: ModelInput) -> None:
        """Reject an input that does not fit the model: this matters more than a value out of range."""
        if fault := diagnosis.of_question(
            self.model, question.data, question.params, None, hinted=self._hinted
        ):
            raise RequestRejected(400, fault)

    def _limit(self, rows: int | None) -> None:
        if rows is not None and rows > self._most_rows:
            raise RequestRejected(413, _too_many(rows, self._most_rows))


def print_without_data(error: BaseException) -> None:
    """Print the traceback of *error* for the log, without its text, which may quote the request."""
    where = "".join(traceback.format_tb(error.__traceback__, -MOST_FRAMES))
    line = f"{where}{type(error).__name__} (text omitted, it may quote the request)"
    print(line, file=sys.stderr, flush=True)  # noqa: T201  # it is the log


def _mime(content_type: str) -> str:
    mime, *parameters = [part.strip() for part in content_type.split(";")]
    values = {name: value for name, _, value in (part.partition("=") for part in parameters)}
    if values.pop("charset", "utf-8").lower() != "utf-8":
        raise RequestRejected(415, "the charset must be utf-8")
    if values:
        raise RequestRejected(415, "the content type may have no parameter but charset")
    known = [JSON, CSV, *([PARQUET] if hasattr(scoring_server, "parse_parquet_input") else [])]
    if mime not in known:
        raise RequestRejected(415, f"the content type must be one of {', '.join(known)}")
    return mime


def _text(body: bytes) -> str:
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError:
        raise RequestRejected(400, "the body is not UTF-8") from None


def _rows(key: str, value: Any) -> int | None:
    if key == "dataframe_split" and isinstance(value, dict):
        value = value.get("data")
    if isinstance(value, list):
        return len(value)
    if isinstance(value, dict):
        return max((len(part) for part in value.values() if isinstance(part, list)), default=None)
    return None


def _holds(value: Any, low: float | None, high: float | None) -> bool:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):  # a whole number too large for a float
        return False
    return (low is None or number >= low) and (high is None or number <= high) and not math.isnan(number)


def _range_text(low: float | None, high: float | None) -> str:
    if low is not None and high is not None:
        return f"from {low:g} to {high:g}"
    if low is not None:
        return f"at least {low:g}"
    return f"at most {high:g}" if high is not None else "a number"


def _too_many(rows: int, most: int) -> str:
    return (
        f"{rows} rows in one request; at most {most} are predicted: send fewer, or raise prediction.max_rows"
    )
