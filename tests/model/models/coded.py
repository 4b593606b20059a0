"""A model from code with modules of its own, called as ours are."""

from typing import Any

import host
import mlflow
import options
import values
import wire


class Coded(mlflow.pyfunc.PythonModel):  # type: ignore[misc,name-defined]
    def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
        return model_input["x"] + host.OWN + wire.OWN + options.OWN + values.OWN


mlflow.models.set_model(Coded())
