"""Fills a registry with versions of every kind; a script, so that the interpreter may be any that has MLflow.

``python shop.py URI…`` waits for a server at *URI*, and prints what it registered, a line of JSON each.
"""

import json
import math
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import mlflow
import mlflow.pyfunc
import mlflow.sklearn
from mlflow import MlflowClient
from mlflow.models import infer_signature
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

NAME = "iris"
UP_SECONDS = 240.0
HAS_LOGGED_MODELS = int(mlflow.__version__.partition(".")[0]) >= 3
AS_CODE = """
import mlflow


class Constant(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return [1.0] * len(model_input)


mlflow.models.set_model(Constant())
"""
HELPER = "def answer(rows):\n    return [42.0] * len(rows)\n"
LOADER = """
from helper import answer


class Model:
    def predict(self, rows):
        return answer(rows)


def _load_pyfunc(path):
    return Model()
"""


def main() -> None:
    """Fill one after the other."""
    for uri in sys.argv[1:]:
        print(json.dumps({"uri": uri, "mlflow": mlflow.__version__, "runs": fill(uri)}))


def fill(uri: str) -> list[str]:
    """Register version after version, into a database only those of scikit-learn; the run of each."""
    mlflow.set_tracking_uri(uri)
    is_server = uri.startswith("http")
    if is_server:
        wait_until_up(uri)
    artifacts = None if is_server else f"{uri.removeprefix('sqlite:///')}.artifacts"
    mlflow.set_experiment(experiment_id=mlflow.create_experiment("shop", artifacts))
    client = MlflowClient(uri, uri)
    client.create_registered_model(NAME)
    with tempfile.TemporaryDirectory() as folder:
        runs = [logged(), by_run_artifacts(client, Path(folder))]
        if is_server:
            runs += [with_code(Path(folder)), from_code(Path(folder))]
    client.transition_model_version_stage(NAME, "2", "Production")
    client.set_registered_model_alias(NAME, "champion", "1")
    client.set_model_version_tag(NAME, "2", "audience", "all")
    if is_server:
        client.transition_model_version_stage(NAME, "3", "Staging")
    return runs


def wait_until_up(uri: str) -> None:
    """Until a server answers, which starts while this imports MLflow."""
    deadline = time.monotonic() + UP_SECONDS
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{uri}/health", timeout=5):
                return
        except OSError:
            time.sleep(0.1)
    raise TimeoutError(f"no server at {uri}")


def logged() -> str:
    """scikit-learn by this MLflow's own way: a logged model since 3, a run's artifacts before."""
    frame = load_iris(as_frame=True)
    model = LogisticRegression(max_iter=500).fit(frame.data, frame.target)
    signature = infer_signature(frame.data, model.predict(frame.data))
    with mlflow.start_run() as run:
        for step, value in enumerate((0.5, 0.9, 0.7)):
            mlflow.log_metric("accuracy", value, step=step)
        mlflow.log_metric("loss", math.nan)
        mlflow.log_metric("recall", 0.9)
        mlflow.log_metric("ratio", math.inf)
        info = mlflow.sklearn.log_model(
            model,
            **{"name" if HAS_LOGGED_MODELS else "artifact_path": "model"},
            registered_model_name=NAME,
            signature=signature,
            input_example=frame.data.head(2),
            pip_requirements=["scikit-learn"],
        )
    if HAS_LOGGED_MODELS:
        with mlflow.start_run():  # an evaluation, which is a run of its own
            mlflow.log_metric("f1", 0.1, model_id=info.model_id)
            mlflow.log_metric("recall", 0.2, model_id=info.model_id)
    return str(run.info.run_id)


def by_run_artifacts(client: MlflowClient, folder: Path) -> str:
    """scikit-learn by the way of MLflow 2: below a run's artifacts, registered as ``runs:/``."""
    frame = load_iris(as_frame=True)
    model = LogisticRegression(max_iter=500).fit(frame.data, frame.target)
    mlflow.sklearn.save_model(model, str(folder / "saved"), pip_requirements=["scikit-learn"])
    with mlflow.start_run() as run:
        client.log_artifacts(run.info.run_id, str(folder / "saved"), "model")
    client.create_model_version(NAME, f"runs:/{run.info.run_id}/model", run.info.run_id)
    return str(run.info.run_id)


def with_code(folder: Path) -> str:
    """A plain pyfunc whose loader and helper are in ``code/``."""
    code = folder / "shop_code"
    code.mkdir()
    (code / "helper.py").write_text(HELPER, "ascii")
    (code / "loader.py").write_text(LOADER, "ascii")
    (folder / "data").mkdir()
    (folder / "data" / "weights").write_bytes(b"\0" * 3_000_000)
    return _registered(loader_module="loader", data_path=str(folder / "data"), code_paths=_files(code))


def from_code(folder: Path) -> str:
    """A model that is a script."""
    script = folder / "constant.py"
    script.write_text(AS_CODE, "ascii")
    return _registered(python_model=str(script))


def _registered(**what: Any) -> str:
    where = {"name" if HAS_LOGGED_MODELS else "artifact_path": "model"}
    with mlflow.start_run() as run:
        mlflow.pyfunc.log_model(**where, registered_model_name=NAME, pip_requirements=["mlflow"], **what)
    return str(run.info.run_id)


def _files(folder: Path) -> list[str]:
    return [str(path) for path in sorted(folder.iterdir())]


if __name__ == "__main__":
    main()
