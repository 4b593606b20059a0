"""Models on disk, as the store keeps them, and the options that go with them."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from mlopsd_probes.model.options import ModelOptions
from mlopsd_probes.model.version import File, Kept, Version

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
  inputs: '[{{"type": "string", "name": "do"}}, {{"type": "double", "name": "x"}}]'
"""


def kept(folder: Path) -> Kept:
    """*folder* as the store would give it out."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return Kept(VERSION, str(folder), tuple(_file(path, folder) for path in paths))


def _file(path: Path, folder: Path) -> File:
    content = path.read_bytes()
    return File(str(path.relative_to(folder)), len(content), hashlib.sha256(content).hexdigest())


def troubled(folder: Path, what: str = "") -> Path:
    """A model with the loader module `trouble`, which does *what* while it loads."""
    (folder / "code").mkdir(parents=True)
    (folder / "data").mkdir()
    module = f"trouble_{folder.name}"
    shutil.copy(HERE / "trouble.py", folder / "code" / f"{module}.py")
    (folder / "data/what.txt").write_text(what, "utf-8")
    (folder / "MLmodel").write_text(MLMODEL.format(module=module), "utf-8")
    return folder


def options(**table: Any) -> ModelOptions:
    """Options of a model with *table* in its table."""
    return ModelOptions.model_validate({"model": "iris", "registries": [{"uri": "sqlite:///x"}], **table})


def rows(columns: list[str], *values: list[Any]) -> bytes:
    """A request in MLflow's scoring protocol."""
    return json.dumps({"dataframe_split": {"columns": columns, "data": list(values)}}).encode()
