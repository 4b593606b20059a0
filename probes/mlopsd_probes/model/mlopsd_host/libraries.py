"""MLflow and what it stands on, as this interpreter has them; importing this takes seconds and may fail.

By name, since they are this interpreter's and not those of whoever checks the types.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

mlflow: Any = import_module("mlflow")  # first: where it is missing nothing else is
numpy: Any = import_module("numpy")
pandas: Any = import_module("pandas")
pyfunc: Any = import_module("mlflow.pyfunc")
scoring_server: Any = import_module("mlflow.pyfunc.scoring_server")
models: Any = import_module("mlflow.models")
model_utils: Any = import_module("mlflow.models.utils")
types: Any = import_module("mlflow.types")
schema: Any = import_module("mlflow.types.schema")
proto_json_utils: Any = import_module("mlflow.utils.proto_json_utils")
