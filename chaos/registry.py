"""A real MLflow server that can be killed, frozen and started again on its port."""

import asyncio
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

from chaos import models
from tests.model.registrar import Registrar
from tests.model.registry_server import environment
from tests.running import free_port

NAME = "chaos"
UP_SECONDS = 90.0
FACTORS = (2.0, 3.0)  # of the good versions, the first of which is champion at first
BAD = {"canary": "nan", "load": "none"}


class RegistryServer:
    """The server, in *folder*, and what is registered there.

    Attributes:
        good: factors by the number of the version.
        bad: numbers by the step that must reject them.
        champion: the version that the alias names.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.uri = f"http://127.0.0.1:{self._port}"
        self.good: dict[str, float] = {}
        self.bad: dict[str, str] = {}
        self.champion = ""

    async def start(self) -> None:
        """Start the server and wait until it answers."""
        await asyncio.to_thread(self._spawn)
        deadline = asyncio.get_running_loop().time() + UP_SECONDS
        while not await asyncio.to_thread(self._answers):
            if asyncio.get_running_loop().time() > deadline:
                raise TimeoutError(f"no MLflow server at {self.uri}; see {self._folder / 'server.log'}")
            await asyncio.sleep(0.1)

    def fill(self) -> None:
        """Register the good versions and the bad ones."""
        self._registrar = Registrar(self.uri, NAME)
        for factor in FACTORS:
            self.good[self._register(f"good_{factor:g}", str(factor))] = factor
        for step, text in BAD.items():
            self.bad[step] = self._register(f"bad_{step}", text)
        self.point(next(iter(self.good)))

    def point(self, number: str) -> None:
        """Make version *number* the champion."""
        self._registrar.point(number)
        self.champion = number

    def signal(self, number: signal.Signals) -> None:
        """Send *number* to the server and all its workers."""
        if self._process is not None:
            os.killpg(self._process.pid, number)

    def end(self) -> None:
        """Kill it."""
        if self._process is not None:
            self.signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _register(self, name: str, factor: str) -> str:
        return self._registrar.register(models.made(self._folder / name, factor))

    def _spawn(self) -> None:
        where = ("--host", "127.0.0.1", "--port", str(self._port), "--workers", "1")
        store = ("--backend-store-uri", f"sqlite:///{self._folder}/mlflow.db")
        files = ("--artifacts-destination", str(self._folder / "artifacts"))
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", *where, *store, *files],
                cwd=self._folder,
                env=environment(Path(sys.executable)),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=5):
                return True
        except OSError:
            return False
