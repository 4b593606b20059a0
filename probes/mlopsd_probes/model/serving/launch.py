"""The environment of a model's process, without credentials, and its first frame."""

import os
import site
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlopsd_probes.model.options import ModelOptions
from mlopsd_probes.model.serving.liveness import beat_interval
from mlopsd_probes.model.version import CachedVersion

KEPT = frozenset({"PATH", "LANG", "LANGUAGE", "TZ", "LD_LIBRARY_PATH"})
KEPT_PREFIXES = ("LC_", "CUDA_", "NVIDIA_", "OMP_", "KMP_", "MKL_", "OPENBLAS_", "TF_", "PYTORCH_")


RULES = {"min", "max", "rows", "nan", "empty", "tolerance"}  # of a canary's answer


def environment(folder: Path) -> dict[str, str]:
    """Return the environment of a model's process: no credentials, and *folder* as its home."""
    kept = {
        name: value for name, value in os.environ.items() if name in KEPT or name.startswith(KEPT_PREFIXES)
    }
    return {
        **kept,
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "PYTHONUSERBASE": site.getuserbase(),  # else the new HOME hides the user's packages
        "PYTHONDONTWRITEBYTECODE": "1",  # a .pyc would change the model's folder, whose hashes are checked
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "GIT_PYTHON_REFRESH": "quiet",
    }


def opening(
    kept: CachedVersion,
    options: ModelOptions,
    folder: Path,
    hidden: Sequence[Path],
    credentials: Sequence[str],
    *,
    mismatched: bool = False,
) -> dict[str, Any]:
    """Return the first frame: the files to load, the paths to hide, and the limits for callers.

    *folder* is the folder of the process. *mismatched* is whether this version answered batched requests
    differently from single ones before.
    """
    of_registries = [
        str(file)
        for registry in options.registries
        for file in (registry.password_file, registry.token_file)
        if file is not None
    ]
    return {
        "folder": kept.folder,
        "files": [
            [file.path, file.size, None if file.path in kept.unchanged else file.sha256]
            for file in kept.files
        ],
        "scratch": str(folder),
        "hidden": [*map(str, hidden), *of_registries],
        "credentials": credentials,
        "beat_interval": beat_interval(options.hang_timeout),
        "max_rows": options.prediction.max_rows,
        "threads": options.serving.threads,
        "batching": options.prediction.batching,
        "batching_mismatch": mismatched,
        "buckets": options.prediction.buckets,
        "features": {name: [allowed.min, allowed.max] for name, allowed in options.features.items()},
        "canary": options.canary.model_dump(include=RULES),
    }
