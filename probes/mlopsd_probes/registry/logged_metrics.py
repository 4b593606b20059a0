"""The metrics of a version, from its run and, with MLflow 3, from its logged model; runs beside MLflow."""

import math
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from mlopsd_probes.registry.fault import Fault

INFINITE = 1.7e308  # MLflow's stores keep infinity as the largest double
MODELS = "models:/"
LOGGED_MODEL = f"{MODELS}m-"
MOST_COPIES = 10  # a copy of a copy; more is a circle

Metric = dict[str, Any]
Answer = dict[str, Metric]


def read_metrics(client: MlflowClient, run_id: str | None, source: str) -> Answer:
    """Return the last value of each metric of the version with this run and *source*.

    The keys are names. Each value has ``value``, ``source`` (``run …`` or ``logged model m-…``) and ``at``,
    milliseconds since 1970. If both have a metric, the newer one counts. A run or logged model that does
    not exist any more has no metrics.

    Raises:
        Fault: the version is of a logged model, which MLflow 2 cannot read.
    """
    found: Answer = {}
    for metric, value in (*_of_run(client, run_id), *_of_logged_model(client, source)):
        if metric not in found or found[metric]["at"] <= value["at"]:
            found[metric] = value
    return found


def _of_run(client: MlflowClient, run_id: str | None) -> Iterator[tuple[str, Metric]]:
    if run_id is None:
        return
    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        _raise_unless_absent(error)
        return
    yield from _last(run.to_proto().data.metrics, f"run {run_id}")


def _of_logged_model(client: MlflowClient, source: str) -> Iterator[tuple[str, Metric]]:
    if (model_id := _logged_model_id(client, source)) is None:
        return
    if not hasattr(client, "get_logged_model"):  # MLflow 2
        fix = f"install a newer one: {sys.executable} -m pip install 'mlflow>=3'"
        text = f"{sys.executable} has MLflow {mlflow.__version__}, which cannot read metrics of logged models"
        raise Fault("import_error", f"{text}; {fix}")
    try:
        metrics = client.get_logged_model(model_id).metrics or []
    except MlflowException as error:
        _raise_unless_absent(error)
        return
    yield from _last(metrics, f"logged model {model_id}")


def _logged_model_id(client: MlflowClient, source: str) -> str | None:
    """Return the id of the logged model that *source* leads to, also through copied versions."""
    for _ in range(MOST_COPIES):
        if source.startswith(LOGGED_MODEL):
            return source.removeprefix(MODELS).partition("/")[0]
        name, _, number = source.removeprefix(MODELS).rpartition("/")
        if not source.startswith(MODELS) or not name or not number.isdecimal():
            return None
        source = _source_of(client, name, number)
    return None


def _source_of(client: MlflowClient, name: str, number: str) -> str:
    """Return the source of a version; "" if the version does not exist any more."""
    try:
        return str(client.get_model_version(name, number).source or "")
    except MlflowException as error:
        _raise_unless_absent(error)
        return ""


def _last(metrics: Iterable[Any], source: str) -> Iterator[tuple[str, Metric]]:
    """Yield the metrics of one *source*, oldest first: the same name may have a value per dataset."""
    for metric in sorted(metrics, key=lambda one: int(one.timestamp)):
        yield metric.key, {"value": _number(metric.value), "source": source, "at": int(metric.timestamp)}


def _number(value: float) -> float:
    return math.copysign(math.inf, value) if abs(value) >= INFINITE else value


def _raise_unless_absent(error: MlflowException) -> None:
    if error.error_code != "RESOURCE_DOES_NOT_EXIST":
        raise error
