"""Models on disk, as the store keeps them, and the options that go with them."""

import asyncio
import hashlib
import json
import logging
import shutil
from pathlib import Path
from typing import Any, cast

from mlopsd_probes.model.metrics import ModelMetrics, Observation
from mlopsd_probes.model.options import ModelOptions
from mlopsd_probes.model.serving.host import HostContext
from mlopsd_probes.model.version import CachedVersion
from mlopsd_probes.registry.version import File, Version
from tests.fakes import Sink

HERE = Path(__file__).parent
VERSION = Version("1", "@champion", "sqlite:///registry.db", "models:/m-1")
MLMODEL = """
flavors:
  python_function:
    loader_module: {module}
    code: code
    data: data
    python_version: 3.11.7
mlflow_version: 3.1.0
signature:
  inputs: '{inputs}'
"""
DO_AND_X = {"do": "string", "x": "double"}


def kept(folder: Path) -> CachedVersion:
    """*folder* as the store would give it out."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return CachedVersion(VERSION, str(folder), tuple(_file(path, folder) for path in paths))


def _file(path: Path, folder: Path) -> File:
    content = path.read_bytes()
    return File(str(path.relative_to(folder)), len(content), hashlib.sha256(content).hexdigest())


def troubled(folder: Path, what: str = "") -> Path:
    """A model with the loader module `trouble`, which does *what* while it loads."""
    return written(folder, HERE / "trouble.py", "what.txt", what)


def written(
    folder: Path, module: Path, data: str = "none.txt", content: str = "", inputs: dict[str, str] = DO_AND_X
) -> Path:
    """A model in *folder*: *module* loads it, for which *content* lies in the file *data*.

    It takes columns of MLflow's types, *inputs*.
    """
    name = f"{module.stem}_{folder.name}"
    (folder / "code").mkdir(parents=True)
    (folder / "data").mkdir()
    shutil.copy(module, folder / "code" / f"{name}.py")
    (folder / "data" / data).write_text(content, "utf-8")
    columns = json.dumps([{"type": kind, "name": column} for column, kind in inputs.items()])
    (folder / "MLmodel").write_text(MLMODEL.format(module=name, inputs=columns), "utf-8")
    return folder


def options(**table: Any) -> ModelOptions:
    """Options of a model with *table* in its table."""
    return ModelOptions.model_validate({"model": "iris", "registries": [{"uri": "sqlite:///x"}], **table})


class RecordedMetrics(ModelMetrics):
    """Metrics that remember what the processes of a model reported."""

    def __init__(self) -> None:
        super().__init__(*[cast("Any", Sink())] * 12)
        object.__setattr__(self, "phases", [])
        object.__setattr__(self, "observed", [])

    phases: list[str]
    observed: list[Observation]

    def phase(self, phase: str, seconds: float) -> None:
        self.phases.append(phase)

    def observe(self, observation: Observation) -> None:
        self.observed.append(observation)


def host_context(scratch: Path, metrics: ModelMetrics | None = None) -> HostContext:
    """Return the context of processes with their folders in *scratch*."""
    log = logging.getLogger("mlopsd.test.host")
    return HostContext(log, scratch, metrics or RecordedMetrics(), set(), asyncio.Event())


def rows(columns: list[str], *values: list[Any]) -> bytes:
    """A request in MLflow's scoring protocol."""
    return json.dumps({"dataframe_split": {"columns": columns, "data": list(values)}}).encode()
