"""The host's own answering around a rule that a test writes: in this process, so that it costs no seconds."""

import json
import os
import socket
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
with warnings.catch_warnings():  # MLflow warns of itself as it is imported
    warnings.simplefilter("ignore")
    import pandas as pd
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    from mlopsd_probes.model.mlopsd_host.serving import ServingLoop
from mlopsd_probes.model.options import CanaryOptions
from mlopsd_probes.model.serving.launch import RULES

JSON = "application/json"
Rule = Callable[[pd.DataFrame], Any]


def answered(serving: ServingLoop, frames: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Yield what one thread answers to *frames*."""
    for job in serving._jobs(frames):
        yield from job.answers()


@dataclass
class Loaded:
    """A loaded model as MLflow returns it: its metadata, and a function that predicts."""

    metadata: Model
    rule: Rule
    asked: int = 0
    loader_module: str = "mlflow.pyfunc.model"
    input_example: None = None

    def predict(self, data: pd.DataFrame, params: object = None) -> Any:
        assert params is None
        self.asked += 1
        return self.rule(data)


class Served:
    """*rule* as a model with *columns* by MLflow's type; *options* are those of a canary."""

    def __init__(
        self,
        channel: socket.socket,
        folder: Path,
        rule: Rule,
        columns: dict[str, str],
        *,
        batching: str = "on",
        batching_mismatch: bool = False,
        **options: Any,
    ) -> None:
        self.columns = list(columns)
        schema = Schema([ColSpec(DataType[kind], name) for name, kind in columns.items()])
        self.model = Loaded(Model(signature=ModelSignature(schema)), rule)
        opening = {
            "max_rows": 100,
            "threads": 1,
            "batching": batching,
            "batching_mismatch": batching_mismatch,
            "folder": str(folder),
            "features": {},
            "canary": {**CanaryOptions().model_dump(include=RULES), **options},
            "buckets": [0.0],
        }
        self.mismatches = 0
        self._serving = ServingLoop(channel, self.model, opening)

    def prove(self, *values: list[Any]) -> tuple[str, str]:
        """Why the canary with the rows *values* did not pass, if so; what came of trying them together."""
        given = self.rows(*values)
        header = {"id": 0, "do": "canary", "type": JSON, "patience": 60, "input": len(given)}
        (((answer, _),),) = answered(self._serving, [(header, given)])
        assert answer["canary"]["passed"] == (not answer["canary"]["reason"])
        return answer["canary"]["reason"], answer["facts"]["batching"]

    def answers(self, *bodies: bytes, within: float = 60) -> list[Any]:
        """Return the results of simultaneous requests, in their order: predictions, or the code."""
        header = {"do": "predict", "type": JSON, "until": time.monotonic() + within}
        frames = [({"id": at, **header}, body) for at, body in enumerate(bodies)]
        found = {
            header["id"]: json.loads(body)["predictions"] if header["code"] == 200 else header["code"]
            for answers in answered(self._serving, frames)
            for header, body in answers
            if not self._is_mismatch(header)
        }
        return [found[at] for at in range(len(bodies))]

    def _is_mismatch(self, header: dict[str, Any]) -> bool:
        is_one = header == {"batching": "mismatch"}
        self.mismatches += is_one
        return is_one

    def rows(self, *values: list[Any]) -> bytes:
        """A request for *values*."""
        return json.dumps({"dataframe_split": {"columns": self.columns, "data": list(values)}}).encode()
