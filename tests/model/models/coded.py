"""A model from code with modules of its own, called as ours are."""

from importlib import import_module
from typing import Any

import mlflow

OWN = sum(import_module(name).OWN for name in ("host", "options", "values", "wire"))


class Coded(mlflow.pyfunc.PythonModel):  # type: ignore[misc,name-defined]
    def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
        return model_input["x"] + OWN


mlflow.models.set_model(Coded())
