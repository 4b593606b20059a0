"""Saves real models with whatever MLflow runs this: ``python make.py FOLDER``; one folder a model."""

import functools
import sys
import warnings
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.models import ModelSignature, infer_signature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec
from sklearn.datasets import load_iris
from sklearn.linear_model import LinearRegression, LogisticRegression

HERE = Path(__file__).parent
NOT_INFERRED = {"pip_requirements": ["mlflow"]}  # which takes 5 s a model


class Scaled(mlflow.pyfunc.PythonModel):  # type: ignore[misc,name-defined]
    def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
        return model_input["x"] * (params or {}).get("factor", 2.0)


class Mixed(mlflow.pyfunc.PythonModel):  # type: ignore[misc,name-defined]
    """Every plain type in, a table out."""

    def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
        name = model_input["name"] if "name" in model_input else pd.Series(["-"] * len(model_input))
        return pd.DataFrame(
            {
                "sum": model_input["amount"].astype(float) + model_input["count"],
                "said": name.astype(str) + np.where(model_input["is_new"], "!", "?"),
            }
        )


class Softmax(mlflow.pyfunc.PythonModel):  # type: ignore[misc,name-defined]
    def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
        weights = np.exp(model_input - model_input.max(axis=1, keepdims=True))
        return weights / weights.sum(axis=1, keepdims=True)


def main(folder: Path) -> None:
    warnings.simplefilter("ignore")
    sys.path.append(str(HERE / "own"))  # MLflow runs a model from code as it saves it
    frame, target = load_iris(return_X_y=True, as_frame=True)
    frame.columns = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
    classifier = LogisticRegression(max_iter=1000).fit(frame, target)
    signature = infer_signature(frame, classifier.predict(frame))
    plain = {"serialization_format": "cloudpickle", **NOT_INFERRED}
    mlflow.sklearn.save_model(
        classifier, folder / "iris", signature=signature, input_example=frame.head(3), **plain
    )
    mlflow.sklearn.save_model(classifier, folder / "bare", **plain)
    regression = LinearRegression().fit(frame, target)
    mlflow.sklearn.save_model(
        regression,
        folder / "regression",
        signature=infer_signature(frame, regression.predict(frame)),
        **plain,
    )
    save = functools.partial(mlflow.pyfunc.save_model, **NOT_INFERRED)
    doubles = Schema([ColSpec(DataType.double, "x")])
    factor = ParamSchema([ParamSpec("factor", DataType.double, 2.0)])
    save(
        folder / "scaled",
        python_model=Scaled(),
        signature=ModelSignature(doubles, doubles, factor),
        input_example=(pd.DataFrame({"x": [1.0, 2.0]}), {"factor": 3.0}),
    )
    mixed = Schema(
        [
            ColSpec(DataType.double, "amount"),
            ColSpec(DataType.long, "count"),
            ColSpec(DataType.boolean, "is_new"),
            ColSpec(DataType.string, "name", required=False),
        ]
    )
    save(folder / "mixed", python_model=Mixed(), signature=ModelSignature(mixed))
    tensor = Schema([TensorSpec(np.dtype(np.float64), (-1, 3))])
    save(folder / "softmax", python_model=Softmax(), signature=ModelSignature(tensor, tensor))
    save(
        folder / "coded",
        python_model=str(HERE / "coded.py"),
        code_paths=[str(file) for file in sorted((HERE / "own").glob("*.py"))],
        signature=ModelSignature(doubles, doubles),
        input_example=pd.DataFrame({"x": [1.0]}),
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
