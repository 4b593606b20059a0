"""A canary that is made from a signature: it rejects a version only if the signature says enough."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

with warnings.catch_warnings():  # MLflow warns of itself as it is imported
    warnings.simplefilter("ignore")
    import mlflow
    import pandas as pd
    from mlflow.models import ModelSignature, infer_signature
    from mlflow.types import ColSpec, DataType, Schema, TensorSpec
    from mlflow.types.schema import Array, Map, Object, Property
    from sklearn.linear_model import LinearRegression

    from mlopsd_probes.model.mlopsd_host import canary as canaries
    from mlopsd_probes.model.mlopsd_host.canary import Canary
    from mlopsd_probes.model.mlopsd_host.scoring import Scorer
    from mlopsd_probes.model.options import CanaryOptions
    from mlopsd_probes.model.serving.launch import RULES

NO_LIMITS: dict[str, Any] = CanaryOptions().model_dump(include=RULES)


class Raising(mlflow.pyfunc.PythonModel):  # type: ignore[misc,name-defined]
    """Raises whatever it is asked."""

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # MLflow reads hints
        raise ValueError("setting an array element with a sequence")


def canary_of(folder: Path, model: Any, signature: ModelSignature) -> dict[str, Any]:
    """Save *model* with MLflow, load it, and return the result of its canary."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if isinstance(model, LinearRegression):
            mlflow.sklearn.save_model(model, folder, signature=signature, pip_requirements=["scikit-learn"])
        else:
            mlflow.pyfunc.save_model(
                folder, python_model=model, signature=signature, pip_requirements=["mlflow"]
            )
        result, _ = Canary(Scorer(mlflow.pyfunc.load_model(str(folder)), 10, {}), folder, NO_LIMITS).predict(
            None
        )
    return result


def test_a_signature_of_lists_does_not_reject_the_version(tmp_path: Path) -> None:
    """MLflow infers a column of arrays from lists, and a model of scikit-learn fails for any row of that."""
    model = LinearRegression().fit([[1.0], [2.0]], [1.0, 2.0])
    result = canary_of(tmp_path / "model", model, infer_signature([[1.0]], [1.0]))
    assert (result["passed"], result["verified"], result["source"]) == (True, False, "synthesised")
    assert result["reason"] == (
        "no row for its canary can be made from its signature "
        "(the model failed: ValueError: setting an array element with a sequence.)"
    )


ENOUGH = Schema([ColSpec(DataType.double, "x")])
GUESSES = {
    "arrays": Schema([ColSpec(Array(DataType.double), "x")]),
    "objects": Schema([ColSpec(Object([Property("a", DataType.string)]), "x")]),
    "maps": Schema([ColSpec(Map(DataType.double), "x")]),
    "a tensor of unknown shape": Schema([TensorSpec(np.dtype(np.float64), (-1, -1, 3))]),
}


@pytest.mark.parametrize("name", GUESSES)
def test_a_model_that_fails_for_a_guess_is_unverified(tmp_path: Path, name: str) -> None:
    result = canary_of(tmp_path / "model", Raising(), ModelSignature(GUESSES[name]))
    assert (result["passed"], result["verified"]) == (True, False)


@pytest.mark.parametrize("schema", [ENOUGH, Schema([TensorSpec(np.dtype(np.float64), (-1, 3))])])
def test_a_model_that_fails_for_what_its_signature_says_is_rejected(tmp_path: Path, schema: Schema) -> None:
    result = canary_of(tmp_path / "model", Raising(), ModelSignature(schema))
    assert (result["passed"], result["reason"]) == (
        False,
        "the model failed: ValueError: setting an array element with a sequence",
    )


def test_a_row_that_cannot_be_made_at_all_does_not_reject_the_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise ValueError("a type of a later MLflow")

    monkeypatch.setattr(canaries, "example_document", fail)
    result = canary_of(tmp_path / "model", Raising(), ModelSignature(ENOUGH))
    assert (result["passed"], result["verified"]) == (True, False)


def test_an_example_of_the_model_itself_is_no_guess(tmp_path: Path) -> None:
    signature = ModelSignature(GUESSES["arrays"])
    example = pd.DataFrame({"x": [[1.0]]})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow.pyfunc.save_model(
            tmp_path / "model",
            python_model=Raising(),
            signature=signature,
            input_example=example,
            pip_requirements=["mlflow"],
        )
        loaded = mlflow.pyfunc.load_model(str(tmp_path / "model"))
        result, _ = Canary(Scorer(loaded, 10, {}), tmp_path / "model", NO_LIMITS).predict(None)
    assert (result["passed"], result["source"]) == (False, "example")
