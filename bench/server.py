"""Servers that are measured: the daemon as its operator starts it, and node_exporter beside it."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mlopsd.process.procfs import descendants
from tests.running import free_port

STOPPING_SECONDS = 30.0
STARTING_SECONDS = 60.0
SYSTEM = "[probes.system]\n"  # every key of it left as it is


class Missing(Exception):
    """Something to compare with is not installed."""


def program(package: str, *names: str) -> str:
    """Return the path of the first of *names* that is installed; root's own folder counts.

    Raises:
        Missing: none is; Debian's *package* has it.
    """
    path = os.pathsep.join(filter(None, (os.environ.get("PATH"), "/usr/sbin")))
    found = next(filter(None, (shutil.which(name, path=path) for name in names)), None)
    if found is None:
        raise Missing(f"no {names[-1]}; install it with: apt install {package}")
    return found


class Server(AbstractContextManager["Server"]):
    """A process that serves *port*; leaving ends it."""

    def __init__(self, command: list[str], port: int, log: Path, environment: Mapping[str, str]) -> None:
        self.port = port
        self.log = log
        self.began = time.perf_counter()
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command, stdout=subprocess.DEVNULL, stderr=output, env={**os.environ, **environment}
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self.stop()

    @property
    def pid(self) -> int:
        """Of the server itself; see `mlopsd.process.procfs.descendants` for what it started."""
        return self._process.pid

    def ended(self, seconds: float) -> int | None:
        """Its exit status, negative for a signal, as soon as it has one; None after *seconds*."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def ask_to_end(self) -> None:
        """SIGTERM, and nobody waits."""
        self._process.send_signal(signal.SIGTERM)

    def stop(self) -> float:
        """SIGTERM, and the seconds until it was gone."""
        began = time.perf_counter()
        self.ask_to_end()
        if self.ended(STOPPING_SECONDS) is None:
            self._process.kill()
            self._process.wait()
        return time.perf_counter() - began

    def kill(self) -> None:
        """SIGKILL, and nobody tidies up."""
        self._process.kill()
        self._process.wait()


class DaemonServer(Server):
    """``mlopsd run`` with the tables *probes*, its state in *room*; anybody may have predictions.

    Whatever else is default. MLflow's own server, which is beside it, asks for no key either.
    """

    def __init__(
        self,
        room: Path,
        probes: str = SYSTEM,
        environment: Mapping[str, str] | None = None,
        top: str = "",
        port: int | None = None,
    ) -> None:
        room.mkdir(parents=True)
        self.socket = room / "s"
        config = room / "config.toml"
        places = f'state_dir = "{room}/state"\nsocket = "{self.socket}"\n'
        config.write_text(f'{places}{top}[api]\npredictions = "open"\n{probes}', "utf-8")
        port = port or free_port()
        command = [sys.executable, "-m", "mlopsd", "run", "--config", str(config), "--port", str(port)]
        super().__init__(command, port, room / "log", environment or {})

    def wait_until_started(self) -> None:
        """Until every probe has a reading, or had the time for one.

        Raises:
            RuntimeError: it ended instead, or took too long.
        """
        end = time.perf_counter() + STARTING_SECONDS
        while not self.events("started"):
            if self.ended(0.02) is not None or time.perf_counter() > end:
                raise RuntimeError(f"the daemon did not start; it said: {self.log.read_text('utf-8')}")

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the lines of its log with this event."""
        whole = self.log.read_text("utf-8", "replace").rpartition("\n")[0]
        lines = [json.loads(line) for line in whole.splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == name]


class ModelServer(Server):
    """``mlflow models serve`` of the champion *name*, in this environment, whatever else is default.

    Its default is one worker of uvicorn's, which it finds on the PATH.
    """

    def __init__(self, room: Path, registry: str, name: str) -> None:
        room.mkdir(parents=True)
        port = free_port()
        programs = Path(sys.executable).parent
        model = ["--model-uri", f"models:/{name}@champion", "--env-manager", "local"]
        command = [str(programs / "mlflow"), "models", "serve", *model, "--port", str(port)]
        environment = {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "MLFLOW_TRACKING_URI": registry,
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }
        super().__init__(command, port, room / "log", environment)

    def stop(self) -> float:
        """At once: what it started outlives a SIGTERM to itself."""
        began = time.perf_counter()
        for pid in [self.pid, *descendants(self.pid)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        return time.perf_counter() - began


class NodeExporter(Server):
    """Debian's prometheus-node-exporter with its default collectors.

    Raises:
        Missing: it is not installed.
    """

    def __init__(self, room: Path) -> None:
        room.mkdir(parents=True)
        command = program("prometheus-node-exporter", "prometheus-node-exporter", "node_exporter")
        port = free_port()
        address = f"--web.listen-address=127.0.0.1:{port}"
        super().__init__([command, address, "--log.level=error"], port, room / "log", {})
