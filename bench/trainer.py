"""Registers models for the benchmark, in a process of its own, which alone imports MLflow.

``python -m bench.trainer FOLDER`` takes lines on its standard input, ``small``, ``slow``, ``large BYTES`` and
``champion VERSION``, and answers each with a line of JSON when it is done.
"""

import json
import os
import pickle
import sys
from pathlib import Path
from typing import Any

NAME = "bench"
ALIAS = "champion"
BYTES_EACH = 120  # a tuple of a float and an integer, and its place in a list
HEAVY = '''"""A model that is mostly small objects, as those of words, neighbours and rules are."""

import pickle
from pathlib import Path

import mlflow


class Heavy(mlflow.pyfunc.PythonModel):
    """Predicts the sum of a row, and the first of its many numbers, which is 0."""

    def load_context(self, context):
        self._table = pickle.loads(Path(context.artifacts["table"]).read_bytes())

    def predict(self, context, model_input, params=None):
        return model_input.to_numpy().sum(axis=1) + self._table[0][0]


mlflow.models.set_model(Heavy())
'''

SLOW = '''"""A model that takes 10 ms of Python for each row."""

import time

import mlflow


class Slow(mlflow.pyfunc.PythonModel):
    """Predicts the sum of each row."""

    def predict(self, context, model_input, params=None):
        return [self._sum(row) for row in model_input.to_numpy()]

    def _sum(self, row):
        end = time.thread_time() + 0.01
        while time.thread_time() < end:
            pass
        return float(row.sum())


mlflow.models.set_model(Slow())
'''


class Trainer:
    """The registry in *folder*, and versions in it."""

    def __init__(self, folder: Path) -> None:
        import mlflow  # noqa: PLC0415  # seconds, and its environment is set by then

        self._folder = folder
        self._mlflow = mlflow
        mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
        self._client = mlflow.MlflowClient()
        self._client.create_experiment("bench", artifact_location=(folder / "artifacts").as_uri())
        mlflow.set_experiment("bench")

    def small(self) -> str:
        """Register the demo's model, fitted to other data each time."""
        import mlflow.sklearn  # noqa: PLC0415  # the same

        from mlopsd_probes.model.demo.diabetes import train  # noqa: PLC0415  # the same

        trained = train(len(self._client.search_model_versions(f"name='{NAME}'")) + 1)
        return self._register(
            mlflow.sklearn.log_model,
            trained.model,
            signature=self._signature(trained.inputs),
            input_example=trained.example,
        )

    def large(self, size: str) -> str:
        """Register a model that takes that many bytes of memory, in small objects."""
        from mlopsd_probes.model.demo.diabetes import train  # noqa: PLC0415  # the same

        table, code = self._folder / "table.pickle", self._folder / "heavy.py"
        table.write_bytes(pickle.dumps([(at / 2, at) for at in range(int(size) // BYTES_EACH)]))
        code.write_text(HEAVY, "utf-8")
        trained = train(1)
        made = self._register(
            self._mlflow.pyfunc.log_model,
            python_model=str(code),
            artifacts={"table": str(table)},
            signature=self._signature(trained.inputs),
        )
        table.unlink()
        return made

    def slow(self) -> str:
        """Register a model that is slow for each row."""
        from mlopsd_probes.model.demo.diabetes import train  # noqa: PLC0415  # the same

        code = self._folder / "slow.py"
        code.write_text(SLOW, "utf-8")
        trained = train(1)
        return self._register(
            self._mlflow.pyfunc.log_model,
            python_model=str(code),
            signature=self._signature(trained.inputs),
            input_example=trained.example,
        )

    def champion(self, version: str) -> str:
        """Move the alias."""
        self._client.set_registered_model_alias(NAME, ALIAS, version)
        return version

    def _signature(self, inputs: Any) -> Any:
        import numpy  # noqa: PLC0415  # the same

        return self._mlflow.models.infer_signature(inputs, numpy.zeros(len(inputs)))

    def _register(self, log: Any, *model: Any, **about: Any) -> str:
        with self._mlflow.start_run():
            logged = log(*model, name=NAME, pip_requirements=["mlflow"], **about)
        return str(self._mlflow.register_model(logged.model_uri, NAME).version)


def main() -> None:
    """Do what the lines say."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # for what libraries print
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    trainer = Trainer(Path(sys.argv[1]))
    for line in sys.stdin:
        what, *words = line.split()
        answers.write(json.dumps({"done": getattr(trainer, what)(*words)}) + "\n")


if __name__ == "__main__":
    main()
