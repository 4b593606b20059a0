"""A comparison of the packages that a version was logged with and the installed ones."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

PIN = re.compile(r"^([\w.-]+)(?:\[[^\]]*\])?==([^\s;#,]+)", re.MULTILINE)
OF_FLAVOR = re.compile(r"^\s+(\w+)_version: '?([\w.+]+)", re.MULTILINE)
PACKAGES = {  # by what MLflow calls the version of a flavor's library in MLmodel
    "catboost": "catboost",
    "keras": "keras",
    "lgb": "lightgbm",
    "pytorch": "torch",
    "sklearn": "scikit-learn",
    "transformers": "transformers",
    "xgb": "xgboost",
}
MOST = 3  # packages in a sentence


def differences(folder: Path) -> str:
    """Name the packages that *folder* pins and whose installed version differs; "" if none is known."""
    found = [
        f"{name} {logged} ({'not installed' if here is None else here} here)"
        for name, logged in sorted(_pins(folder).items())
        if (here := _installed(name)) != logged
    ]
    return ", ".join(found[:MOST])


def is_required(name: str, folder: Path) -> bool:
    """Return whether ``requirements.txt`` in *folder* has a package with the name of the module *name*."""
    return _normal(name) in map(_normal, re.findall(r"^[\w.-]+", _text(folder / "requirements.txt"), re.M))


def _pins(folder: Path) -> dict[str, str]:
    of_flavors = dict(_of_flavors(_text(folder / "MLmodel")))
    pins = dict(PIN.findall(_text(folder / "requirements.txt")))
    return {
        name: version for name, version in {**of_flavors, **pins}.items() if not name.startswith("mlflow")
    }


def _of_flavors(text: str) -> Iterator[tuple[str, str]]:
    for key, version in OF_FLAVOR.findall(text):
        if key in PACKAGES:
            yield PACKAGES[key], version


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except (OSError, ValueError):
        return ""
