"""A registry of MLflow's in a folder, made for the benchmark."""

import json
import os
import subprocess
import sys
from contextlib import AbstractContextManager
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType

from bench.server import Missing
from bench.trainer import NAME

NEEDED = ("mlflow", "sklearn")


class BenchRegistry(AbstractContextManager["BenchRegistry"]):
    """``sqlite:///`` in *folder*, and a process with MLflow's client that registers in it.

    Raises:
        Missing: MLflow or scikit-learn is not installed.
    """

    def __init__(self, folder: Path) -> None:
        for name in NEEDED:
            if find_spec(name) is None:
                raise Missing(f"no {name}; install it with: pip install 'mlopsd[demo]'")
        folder.mkdir(parents=True)
        self.uri = f"sqlite:///{folder / 'mlflow.db'}"
        with (folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "bench.trainer", str(folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                encoding="utf-8",
                env={name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")},
            )
        self._log = folder / "log"

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.communicate()

    def small(self) -> str:
        """Register a version of a small scikit-learn model; return its number."""
        return self._do("small")

    def slow(self) -> str:
        """Register a version that takes 10 ms of Python for each row; return its number."""
        return self._do("slow")

    def large(self, size: int) -> str:
        """Register a version that takes *size* bytes of memory, in small objects; return its number."""
        return self._do(f"large {size}")

    def crown(self, version: str) -> None:
        """*version* is champion from now on."""
        self._do(f"champion {version}")

    def table(self, more: str = "") -> str:
        """Return the configuration of a probe of the champion, everything else at its default."""
        return f'[probes.model]\nmodel = "{NAME}"\nregistries = [{{ uri = "{self.uri}" }}]\n{more}'

    def _do(self, what: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()
        if not (answer := self._process.stdout.readline()):
            raise RuntimeError(f"{what}: {self._log.read_text('utf-8', 'replace')[-2000:]}")
        return str(json.loads(answer)["done"])
