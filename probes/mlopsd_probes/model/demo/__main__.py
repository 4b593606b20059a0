"""``python -m mlopsd_probes.model.demo FOLDER --model NAME``: ensure a champion in FOLDER's registry."""

import fcntl
import os
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from mlopsd_probes.model.demo.champion import champion
from mlopsd_probes.model.demo.report import Report, die_with_parent

DATABASE = "mlflow.db"
ARTIFACTS = "artifacts"
LOCK = ".mlopsd-demo"


def main() -> int:
    """Ensure the champion and print the progress, see `Report`; a lock admits one process per folder."""
    arguments = _arguments()
    report = Report()
    die_with_parent()
    with (arguments.folder / LOCK).open("a") as lock:
        report.begin("checking for a champion")
        fcntl.flock(lock, fcntl.LOCK_EX)
        database = arguments.folder / DATABASE
        is_any_enough = not arguments.new and arguments.experiment is None
        if is_any_enough and (version := champion(database, arguments.model)):
            report.end(version)
            return 0
        return _train(arguments, database, report)


def _arguments() -> Namespace:
    parser = ArgumentParser(prog="python -m mlopsd_probes.model.demo", allow_abbrev=False)
    parser.add_argument("folder", type=Path, help="the demo's folder, an absolute path")
    parser.add_argument("--model", required=True, help="the registered model's name")
    parser.add_argument("--experiment", help="the experiment that training is logged in")
    parser.add_argument("--new", action="store_true", help="a new version, even if there is a champion")
    return parser.parse_args()


def _train(arguments: Namespace, database: Path, report: Report) -> int:
    report.begin("starting MLflow")
    for name in [name for name in os.environ if name.startswith(("MLFLOW_", "DATABRICKS_"))]:
        del os.environ[name]  # each could select another registry, experiment or run
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    from mlflow.exceptions import MlflowException  # noqa: PLC0415  # takes 2 s, reads the environment set above

    from mlopsd_probes.model.demo.registry import Registry  # noqa: PLC0415  # imports MLflow

    try:
        registry = Registry(database, arguments.folder / ARTIFACTS, arguments.model, report)
        registry.close_killed_runs()
        if arguments.new:
            registry.add(arguments.experiment)
        else:
            registry.ensure(arguments.experiment)
    except (MlflowException, OSError) as error:
        report.fail(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
