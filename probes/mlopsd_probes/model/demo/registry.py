"""The demo's registry; each step adds only what is missing, so a killed run can be repeated."""

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import mlflow
import mlflow.sklearn
from mlflow import MlflowClient
from mlflow.models import infer_signature

from mlopsd_probes.model.demo.champion import ALIAS
from mlopsd_probes.model.demo.diabetes import Trained, train
from mlopsd_probes.model.demo.report import Report

EXPERIMENT = "mlopsd-demo"
OURS = {"mlopsd.demo": "training"}  # distinguishes the demo's runs from the user's
REQUIRED = ("mlflow", "numpy", "pandas", "scikit-learn", "skops")


class Registry:
    """The registry in *database*, with its files in *artifacts* and the registered *model*."""

    def __init__(self, database: Path, artifacts: Path, model: str, report: Report) -> None:
        self._artifacts = artifacts
        self._model = model
        self._report = report
        report.begin("making the registry")
        if not database.exists():
            _make(database)
        mlflow.set_tracking_uri(f"sqlite:///{database}")
        self._client = MlflowClient()

    def ensure(self, experiment: str | None) -> None:
        """Ensure a champion, trained in *experiment* if that is given; keep an existing one."""
        versions = self._versions()
        if not versions or (experiment is not None and self._experiment_of_champion() != experiment):
            self.add(experiment)
        elif (champion := self._champion()) is None:
            self._crown(versions[-1])
        else:
            self._report.end(champion)

    def add(self, experiment: str | None) -> None:
        """Train and register a new version, and make it champion."""
        self._report.begin("training the model")
        seed = len(self._versions()) + 1
        trained = train(seed)
        with mlflow.start_run(experiment_id=self._experiment(experiment or EXPERIMENT), tags=OURS):
            uri = self._log(trained)
        self._report.begin("registering the version")
        made = mlflow.register_model(uri, self._model)
        self._crown(int(made.version), trained.metrics)

    def close_killed_runs(self) -> None:
        """Mark the demo's runs that a killed process left running as killed."""
        tagged = " and ".join(f"tags.`{name}` = '{value}'" for name, value in OURS.items())
        everywhere = [experiment.experiment_id for experiment in self._client.search_experiments()]
        for run in self._client.search_runs(everywhere, f"attributes.status = 'RUNNING' and {tagged}"):
            self._client.set_terminated(run.info.run_id, "KILLED")

    def _log(self, trained: Trained) -> str:
        """Log the model, its parameters and its metrics; return the URI of the logged model."""
        self._report.begin("logging the model")
        mlflow.log_params(trained.params)
        mlflow.log_metrics(trained.metrics)
        signature = infer_signature(trained.inputs, trained.model.predict(trained.inputs))
        logged = mlflow.sklearn.log_model(
            trained.model,
            name=self._model,
            signature=signature,
            input_example=trained.example,
            pip_requirements=_requirements(),  # else MLflow loads the model to find them, 10 s
        )
        return str(logged.model_uri)

    def _crown(self, number: int, metrics: Mapping[str, float] | None = None) -> None:
        self._client.set_registered_model_alias(self._model, ALIAS, str(number))
        self._report.end(str(number), metrics)

    def _champion(self) -> str | None:
        alias = self._client.get_registered_model(self._model).aliases.get(ALIAS)
        return None if alias is None else str(alias)

    def _experiment_of_champion(self) -> str | None:
        """Return the name of the experiment whose run made the champion."""
        number = self._champion()
        made_by = None if number is None else self._client.get_model_version(self._model, number).run_id
        if made_by is None:
            return None
        return str(self._client.get_experiment(self._client.get_run(made_by).info.experiment_id).name)

    def _experiment(self, name: str) -> str:
        """Return the id of the experiment *name*; create it if it is missing."""
        if found := self._client.get_experiment_by_name(name):
            return str(found.experiment_id)
        return str(self._client.create_experiment(name, artifact_location=self._artifacts.as_uri()))

    def _versions(self) -> list[int]:
        """Return the numbers of the versions, ascending."""
        return sorted(int(one.version) for one in self._client.search_model_versions(f"name='{self._model}'"))


def _make(database: Path) -> None:
    """Make the tables in another file and rename it to *database*: MLflow cannot repair an incomplete set."""
    part = database.with_name(f".{database.name}.part")
    for leftover in (part, part.with_name(f"{part.name}-journal")):
        leftover.unlink(missing_ok=True)
    MlflowClient(f"sqlite:///{part}").search_experiments()
    part.replace(database)


def _requirements() -> list[str]:
    """Return the packages that loading the model needs, with the installed versions."""
    found = []
    for name in REQUIRED:
        try:
            found.append(f"{name}=={version(name)}")
        except PackageNotFoundError:  # some versions of MLflow save without skops
            continue
    return found
