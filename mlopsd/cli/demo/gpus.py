"""The GPUs of ``mlopsd demo --fake-gpus``: a driver library that answers from the user's file."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from shlex import quote
from typing import Any

from mlopsd.cli.demo.folder import DemoFolder
from mlopsd.cli.errors import CommandError
from mlopsd.config.load import LoadedConfig
from mlopsd.config.sources import Tree

FAKE = "mlopsd_probes.fake_nvml"  # run by its name and never imported
SCENARIOS = ("a100-mig", "dgx-a100-8", "h200", "rtx4090", "t4")
CHOICES = f"{', '.join(SCENARIOS)}, or a file of your own"
INTERVAL = 5.0  # seconds, so that a fault shows soon; usually 15 s
NEEDED = "nvidia-ml-py"


@dataclass(frozen=True, slots=True)
class FakeGpus:
    """Simulated GPUs.

    Attributes:
        scenario: The file that describes them; the GPUs change with it.
        folder: The folder of their other files.
        environment: The variables with which a process sees them.
    """

    scenario: Path
    folder: Path
    environment: Mapping[str, str]

    def export(self) -> None:
        """Show them, instead of this host's own, to every process that starts later."""
        os.environ.update(self.environment)

    def overrides(self, loaded: LoadedConfig) -> Tree:
        """Return a ``[probes.gpu]`` that watches only them, to override the configuration *loaded*."""
        own: dict[str, Any] = {
            "sysfs_path": str(self.folder)
        }  # so that the probe finds no GPU of this host on the PCI bus
        if "gpu" not in loaded.settings.probes:
            own["interval"] = INTERVAL
        return {"probes": {"gpu": own}}

    def hints(self, address: str) -> Iterator[str]:
        """Yield commands to try with them, for a daemon at *address*."""
        file = quote(str(self.scenario))
        yield f"the GPUs are simulated from {self.scenario}, and change with that file; try"
        yield f"  echo 'xid 79 gpu 0' >> {file}; echo 'lost gpu 0' >> {file}"
        yield f"  curl {address}/health/gpu"


def create_fake_gpus(name: str, folder: DemoFolder) -> FakeGpus:
    """Return the GPUs of the scenario *name*; compile their library if it is missing.

    Raises:
        CommandError: A package or a compiler is missing, or the scenario does not exist.
    """
    _check_package()
    home = folder.path / "gpus"
    command = [sys.executable, "-m", FAKE, name, str(home)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    answer = _parse_last_line(done.stdout)
    if "environment" not in answer:
        raise CommandError(
            answer.get("failed") or f"cannot simulate GPUs: {done.stderr.strip().rpartition(chr(10))[2]}"
        )
    return FakeGpus(Path(answer["scenario"]), home, answer["environment"])


def _check_package() -> None:
    try:
        version(NEEDED)
    except PackageNotFoundError as error:
        fix = "pip install 'mlopsd[gpu]'"
        raise CommandError(f"cannot simulate GPUs: {NEEDED} is not installed; {fix}") from error


def _parse_last_line(text: str) -> dict[str, Any]:
    lines = text.splitlines()
    return dict(json.loads(lines[-1])) if lines else {}
