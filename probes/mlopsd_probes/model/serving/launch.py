"""The start of a model's process: an environment without credentials, and the first frame."""

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


def environment(folder: Path) -> dict[str, str]:
    """All that the model's process gets of ours: no credentials, and no home where some lie."""
    kept = {
        name: value for name, value in os.environ.items() if name in KEPT or name.startswith(KEPT_PREFIXES)
    }
    return {
        **kept,
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "PYTHONUSERBASE": site.getuserbase(),  # packages of the daemon's own user are packages all the same
        "PYTHONDONTWRITEBYTECODE": "1",  # a model's code/ must stay as it was fetched
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
    """Return the files to load, the paths to hide, and the limits for callers; *folder* is the process' own.

    *mismatched* says that joined requests were answered otherwise than single ones before.
    """
    of_registries = [
        str(file)
        for registry in options.registries
        for file in (registry.password_file, registry.token_file)
        if file is not None
    ]
    return {
        "folder": kept.folder,
        "files": [[file.path, file.size, file.sha256] for file in kept.files],
        "scratch": str(folder),
        "hidden": [*map(str, hidden), *of_registries],
        "credentials": credentials,
        "beat_interval": beat_interval(options.hang_timeout),
        "max_rows": options.prediction.max_rows,
        "batching": options.prediction.batching,
        "batching_mismatch": mismatched,
        "buckets": options.prediction.buckets,
        "features": {name: [allowed.min, allowed.max] for name, allowed in options.features.items()},
        "canary": {"min": options.canary.min, "max": options.canary.max},
    }
