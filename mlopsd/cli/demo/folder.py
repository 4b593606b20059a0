"""The folder of the demo: registry, artifacts, the daemon's state, and the user's configuration."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from mlopsd.cli.errors import CommandError
from mlopsd.cli.terminal.toml import quote
from mlopsd.state_dir import state_home

MARK = ".mlopsd-demo"  # an empty file, which the training locks
MISREAD = frozenset("?#%")  # MLflow uses the path as a part of a URI
CONFIGURATION = """\
# The configuration of `mlopsd demo`. It is yours: later runs leave it as it is; remove it for a new one.
state_dir = {state}
socket = {socket}
debug = true  # /docs and /redoc

[api]
host = "127.0.0.1"  # this host alone, unless a proxy or a tunnel here passes requests on
predictions = "open"  # whoever reaches that address gets predictions, without a key

[probes.system]

[probes.model]
model = "{model}"
registries = [{{ uri = {registry} }}]
interval = "5s"  # so that a new champion is seen soon; usually 30 s

# What a version must have reached in training, or it is rejected before it is fetched.
[probes.model.thresholds]
r2 = {{ min = 0.2 }}
mean_absolute_error = {{ max = 60 }}

# What a caller may ask for: scikit-learn's diabetes data, patients of 19 to 79 years.
[probes.model.features]
age = {{ min = 0, max = 120 }}
sex = {{ min = 1, max = 2 }}
bmi = {{ min = 10, max = 80 }}
bp = {{ min = 40, max = 200 }}

# The progression of the disease in a year, 25 to 346 in the data.
[probes.model.prediction]
buckets = [50, 75, 100, 125, 150, 175, 200, 225, 250, 275, 300, 350]

[probes.model.canary]
min = 0
max = 500
"""


def default_folder(environment: Mapping[str, str] | None = None) -> Path:
    """Return the demo's folder in this user's state home."""
    return state_home(os.environ if environment is None else environment) / "mlopsd-demo"


class DemoFolder:
    """The paths in the folder *path*, which is absolute."""

    MODEL: ClassVar = "diabetes-progression"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.toml"
        self.log = path / "training.log"
        self.registry = f"sqlite:///{path / 'mlflow.db'}"

    @property
    def is_default(self) -> bool:
        """Return whether the demo uses this folder without ``--folder``."""
        return self.path == default_folder()

    def create(self) -> bool:
        """Create the folder and its configuration if missing; return whether the configuration is new.

        Raises:
            CommandError: The folder cannot be created, has other files, or has a path that MLflow misreads.
        """
        if bad := MISREAD & set(str(self.path)):
            raise CommandError(
                f"cannot use {self.path}: MLflow would misread {min(bad)!r} in it; choose another"
            )
        try:
            return self._create()
        except OSError as error:
            fix = "choose another with --folder, or let this user write there"
            raise CommandError(f"cannot use the folder {self.path}: {error.strerror}; {fix}") from error

    def _create(self) -> bool:
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not (self.path / MARK).exists() and any(self.path.iterdir()):
            fix = "choose an empty folder with --folder"
            raise CommandError(
                f"cannot use the folder {self.path}: it contains files of other programs; {fix}"
            )
        (self.path / MARK).touch()
        if self.config.exists():
            return False
        part = self.path / ".config.toml.part"
        part.write_text(self._render_configuration(), "utf-8")
        part.replace(self.config)
        return True

    def _render_configuration(self) -> str:
        return CONFIGURATION.format(
            model=self.MODEL,
            registry=quote(self.registry),
            state=quote(str(self.path / "state")),
            socket=quote(str(self.path / "mlopsd.sock")),
        )
