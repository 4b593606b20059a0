"""MLflow and the libraries that it uses; importing this module takes seconds and may fail.

They are imported by name: a type checker runs in another interpreter, which may lack them.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

mlflow: Any = import_module("mlflow")  # first, so that the error names it
numpy: Any = import_module("numpy")
pandas: Any = import_module("pandas")
pyfunc: Any = import_module("mlflow.pyfunc")
scoring_server: Any = import_module("mlflow.pyfunc.scoring_server")
models: Any = import_module("mlflow.models")
model_utils: Any = import_module("mlflow.models.utils")
types: Any = import_module("mlflow.types")
schema: Any = import_module("mlflow.types.schema")
proto_json_utils: Any = import_module("mlflow.utils.proto_json_utils")
