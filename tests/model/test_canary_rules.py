"""The canary fits the model: how many rows, which gaps, which fields of an example, and golden answers."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

with warnings.catch_warnings():  # MLflow warns of itself as it is imported
    warnings.simplefilter("ignore")
    import mlflow
    import pandas as pd
    from mlflow.models import ModelSignature, infer_signature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import Array, ParamSchema, ParamSpec
    from sklearn.linear_model import LinearRegression

    from mlopsd_probes.model.mlopsd_host.canary import Canary
    from mlopsd_probes.model.mlopsd_host.request import RequestRejected
    from mlopsd_probes.model.mlopsd_host.scoring import Scorer
    from mlopsd_probes.model.options import CanaryOptions
    from mlopsd_probes.model.serving.launch import RULES

ROWS = pd.DataFrame({"x": [1.0, 2.0]})


class Answering(mlflow.pyfunc.PythonModel):  # type: ignore[misc,name-defined]
    """Answers what *rule* says."""

    def __init__(self, rule: Callable[[Any, Any], Any]) -> None:
        self.rule = rule

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # MLflow reads hints
        return self.rule(model_input, params)


Tried = Callable[..., dict[str, Any]]


@pytest.fixture
def tried(tmp_path: Path) -> Tried:
    """Save a model that answers by *rule*, and return the result of its canary."""

    def run(
        rule: Callable[[Any, Any], Any],
        *,
        signature: ModelSignature | None = None,
        example: Any = ROWS,
        expect: Any = None,
        given: bytes | None = None,
        **options: Any,
    ) -> dict[str, Any]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            mlflow.pyfunc.save_model(
                tmp_path / "model",
                python_model=Answering(rule),
                signature=signature,
                input_example=example,
                pip_requirements=["mlflow"],
            )
            loaded = mlflow.pyfunc.load_model(str(tmp_path / "model"))
        rules = CanaryOptions(**options).model_dump(include=RULES)
        canary = Canary(Scorer(loaded, 10, {}), tmp_path / "model", rules)
        expected = b"" if expect is None else json.dumps(expect).encode()
        result, _ = canary.predict(None if given is None else (given, "application/json"), expected)
        return result

    return run


def boxes(rows: Any, params: Any) -> Any:
    """As a detector: seven boxes, whatever the picture."""
    return np.ones((7, 4))


@pytest.mark.parametrize(
    "rule",
    [
        boxes,
        lambda rows, params: [[[0.1, 0.2]] * 6],  # feature extraction: six tokens for one text
        lambda rows, params: rows[rows["x"] > 1],  # a filter
        lambda rows, params: pd.DataFrame({"day": range(30), "demand": np.ones(30)}),  # a forecast
    ],
)
def test_a_model_may_answer_another_number_of_rows(tried: Tried, rule: Callable[[Any, Any], Any]) -> None:
    result = tried(rule)
    assert (result["passed"], result["reason"]) == (True, "")


def test_the_number_of_rows_is_reported(tried: Tried) -> None:
    result = tried(boxes)
    assert (result["rows"], result["answered"]) == (2, 7)


def test_an_operator_can_ask_for_as_many_rows_as_were_given(tried: Tried) -> None:
    result = tried(boxes, rows="same")
    expected = '7 rows were answered to 2; if this is right, set […canary] rows = "any"'
    assert (result["passed"], result["reason"]) == (False, expected)


def test_a_library_that_predicts_row_by_row_must_answer_each(tmp_path: Path) -> None:
    model = LinearRegression().fit([[1.0], [2.0]], [1.0, 2.0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow.sklearn.save_model(
            model,
            tmp_path / "model",
            signature=infer_signature(ROWS, [1.0]),
            input_example=ROWS,
            pip_requirements=["scikit-learn"],
        )
        loaded = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    loaded.predict = lambda data, params=None: np.ones(1)
    rules = CanaryOptions().model_dump(include=RULES)
    result, _ = Canary(Scorer(loaded, 10, {}), tmp_path / "model", rules).predict(None)
    assert result["reason"].startswith("1 rows were answered to 2")


GAPS = pd.DataFrame({"score": [0.1, 0.2], "note": [np.nan, 1.0]})
NO_NOTE = pd.DataFrame({"score": [0.1, 0.2], "note": [np.nan, np.nan]})
NO_SCORE = pd.DataFrame({"score": [np.nan, 0.2], "note": [1.0, 1.0]})


@pytest.mark.parametrize(
    ("answer", "reason"),
    [(GAPS, ""), (NO_NOTE, ""), (NO_SCORE, "NaN in 1 of 2 rows of column 'score'")],
)
def test_a_column_with_gaps_in_the_logged_example_may_have_gaps(
    tried: Tried, answer: pd.DataFrame, reason: str
) -> None:
    signature = infer_signature(ROWS, GAPS)
    result = tried(lambda rows, params: answer, signature=signature)
    assert result["reason"].partition(";")[0] == reason


def test_without_such_a_signature_no_gap_is_accepted(tried: Tried) -> None:
    signature = infer_signature(ROWS, pd.DataFrame({"score": [0.1], "note": [1.0]}))
    result = tried(lambda rows, params: GAPS, signature=signature)
    expected = "NaN in 1 of 2 rows of column 'note'; if this is right, set […canary] nan = \"any\""
    assert result["reason"] == expected


@pytest.mark.parametrize(("answer", "reason"), [(GAPS, ""), (NO_NOTE, "NaN in 2 of 2 rows of column 'note'")])
def test_an_operator_can_accept_columns_with_gaps(tried: Tried, answer: pd.DataFrame, reason: str) -> None:
    signature = ModelSignature(infer_signature(ROWS).inputs)
    result = tried(lambda rows, params: answer, signature=signature, nan="columns")
    assert result["reason"].partition(";")[0] == reason


def test_an_operator_can_accept_any_number(tried: Tried) -> None:
    result = tried(lambda rows, params: [float("nan"), float("inf")], nan="any")
    assert (result["passed"], result["reason"]) == (True, "")


def test_limits_hold_for_the_numbers_beside_the_gaps(tried: Tried) -> None:
    result = tried(lambda rows, params: [float("nan"), 9.0], nan="any", max=5)
    assert result["reason"] == "it predicted 9, above the configured maximum 5"


@pytest.mark.parametrize("answer", [[], None, [None, None], pd.DataFrame({"a": []})])
def test_nothing_is_an_answer_only_if_an_operator_says_so(tried: Tried, answer: Any) -> None:
    found = tried(lambda rows, params: answer)["reason"]
    assert found.endswith('; if this is right, set […canary] empty = "accept"')


@pytest.mark.parametrize("answer", [[], [None, None], pd.DataFrame({"a": []})])
def test_an_operator_can_accept_nothing(tried: Tried, answer: Any) -> None:
    assert tried(lambda rows, params: answer, empty="accept")["passed"]


def doubled(rows: Any, params: Any) -> list[float]:
    return [2 * number for number in rows["x"]]


@pytest.mark.parametrize(
    ("expect", "reason"),
    [
        ([2.0, 4.0], ""),
        ({"predictions": [2.0, 4.0000001]}, ""),
        ([2.0, 4.1], "it differs from […canary] expect: /1 is 4 and not 4.1"),
        ([2.0], "it differs from […canary] expect: the answer has 2 values and not 1"),
        ([2.0, "4"], "it differs from […canary] expect: /1 is 4.0 and not '4'"),
        ([2.0, True], "it differs from […canary] expect: /1 is 4.0 and not True"),
    ],
)
def test_a_golden_answer_is_compared(tried: Tried, expect: Any, reason: str) -> None:
    assert tried(doubled, expect=expect)["reason"] == reason


def test_a_golden_answer_of_records_names_the_field(tried: Tried) -> None:
    expect = [{"label": "cat", "p": 0.9}, {"label": "dog", "p": 0.8}]
    answer = pd.DataFrame({"label": ["cat", "cow"], "q": [0.9, 0.8]})
    found = tried(lambda rows, params: answer, expect=expect)["reason"]
    assert "/0/p is missing; /0/q is not expected; /1/p is missing" in found


def test_the_tolerance_is_the_operators(tried: Tried) -> None:
    assert tried(doubled, expect=[2.1, 4.1], tolerance=0.1)["passed"]


CHAT = ModelSignature(
    Schema(
        [
            ColSpec(DataType.string, "message"),
            ColSpec(Array(DataType.string), "stop", required=False),
            ColSpec(DataType.double, "temperature", required=False),
        ]
    ),
    params=ParamSchema([ParamSpec("n", DataType.long, 1)]),
)


def without_stop(rows: Any, params: Any) -> Any:
    """As MLflow's flavor of transformers, which loads a tokenizer from the hub for *stop*."""
    if "stop" in rows:
        raise OSError("cannot reach the hub for the tokenizer")
    return ["hello"]


EXAMPLE = pd.DataFrame({"message": ["hi"], "stop": [["\n"]], "temperature": [0.5]})


def test_an_example_that_fails_is_tried_without_its_optional_fields(tried: Tried) -> None:
    result = tried(without_stop, signature=CHAT, example=EXAMPLE)
    assert (result["passed"], result["source"]) == (True, "example")
    assert result["left_out"] == ["stop", "temperature"]


def test_an_example_that_fails_anyhow_is_reported_as_it_is(tried: Tried) -> None:
    def fail(rows: Any, params: Any) -> Any:
        raise ValueError(f"no weights for {len(rows.columns)} columns")

    result = tried(fail, signature=CHAT, example=EXAMPLE)
    assert result["reason"] == "the model failed: ValueError: no weights for 3 columns"
    assert "left_out" not in result


def test_an_input_of_an_operator_is_neither_changed_nor_quoted(tried: Tried) -> None:
    def quote(rows: Any, params: Any) -> Any:
        raise ValueError(f"cannot use {rows['message'][0]}")

    given = json.dumps({"dataframe_records": [{"message": "a patient's name", "stop": ["a"]}]}).encode()
    result = tried(quote, signature=CHAT, example=EXAMPLE, given=given)
    assert (result["passed"], result["reason"]) == (False, "the model failed: ValueError")


class Refusal(Exception):
    """As MLflow's exception, with its code."""

    error_code = "INVALID_PARAMETER_VALUE"


@pytest.mark.parametrize(
    ("raised", "signed", "code"),
    [
        (Refusal("stream is not supported"), True, 400),
        (ValueError("shapes differ"), True, 500),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False, 400),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False, 500),
        (MemoryError(), False, 500),
        (FileNotFoundError("vocabulary.txt"), False, 500),
        (SystemExit(3), False, 500),
    ],
)
def test_who_is_at_fault_for_an_exception(
    tmp_path: Path, *, raised: BaseException, signed: bool, code: int
) -> None:
    def fail(rows: Any, params: Any) -> Any:
        raise raised

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow.pyfunc.save_model(
            tmp_path / "model",
            python_model=Answering(lambda rows, params: [0.0] * len(rows)),
            signature=infer_signature(ROWS) if signed else None,
            pip_requirements=["mlflow"],
        )
        loaded = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    loaded.predict = fail
    scorer = Scorer(loaded, 10, {})
    request = scorer.read(b'{"dataframe_records": [{"x": 1.0}]}', "application/json")
    with pytest.raises(RequestRejected) as rejection:
        scorer.predict(scorer.question(request))
    assert rejection.value.code == code
