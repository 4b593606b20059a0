"""The main function of this process: enter the sandbox, load one version, answer requests."""

from __future__ import annotations

import gc
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import wire
from .heartbeat import Heartbeat
from .integrity import verify
from .load_error import LoadError, explain
from .niceness import low_priority
from .sandbox.enter import enter_sandbox, isolate_forks

IN_SERVING = "_MLFLOW_IS_IN_SERVING_ENVIRONMENT"  # MLflow's own server sets it after loading

Report = Callable[[dict[str, Any]], None]


def main(descriptor: int, parent: int, pipe: int) -> None:
    """Serve on the connected socket *descriptor* for the daemon *parent*; beat on *pipe*."""
    channel = socket.socket(fileno=descriptor)
    channel.set_inheritable(False)
    os.set_inheritable(pipe, False)  # noqa: FBT003  # it takes no keyword
    if not (frames := wire.Inbox(channel).wait()):
        return
    opening, _ = frames[0]
    hidden, credentials = opening["hidden"], opening["credentials"]
    isolation = enter_sandbox(parent, hidden, credentials, [opening["folder"]], [opening["scratch"]])
    wire.send(channel, {"isolation": isolation})  # sent before any code of the model runs, which could lie
    isolate_forks(channel, pipe)
    Heartbeat(pipe, opening["beat_interval"]).start()
    predicting = _Predicting(channel)
    try:
        with low_priority():
            model = _load(opening, lambda header: wire.send(channel, header))
    except BaseException as error:  # noqa: BLE001  # third-party code, which may also call sys.exit
        if not isinstance(error, LoadError):
            traceback.print_exc()
        failure = explain(error, Path(opening["folder"]))
        wire.send(channel, {"failed": failure.kind, "reason": failure.reason})
        _leave()
    predicting.begin(model, opening)
    predicting.join()
    _leave()


def _load(opening: dict[str, Any], report: Report) -> Any:
    began = time.perf_counter()
    folder = Path(opening["folder"])
    verify(folder, opening["files"])
    verified = time.perf_counter()
    pyfunc = _mlflow()
    imported = time.perf_counter()
    report({"phase": "import", "seconds": imported - verified})
    model = pyfunc.load_model(str(folder))
    os.environ[IN_SERVING] = "true"
    gc.collect()
    gc.freeze()  # a million lasting objects; each collection over them would delay predictions
    report({"phase": "load", "seconds": verified - began + time.perf_counter() - imported})
    return model


def _mlflow() -> Any:
    try:
        from .libraries import pyfunc  # noqa: PLC0415  # takes seconds, and is timed as a phase
    except ModuleNotFoundError as error:
        if error.name == "mlflow":
            raise LoadError("import_error", f"{sys.executable} has no mlflow; install it there") from error
        raise
    return pyfunc


def _leave() -> None:
    """Exit without the exit handlers of the model's libraries, which may wait for hung threads."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


class _Predicting(threading.Thread):
    """The thread that predicts; started before the loading thread is niced, so it keeps its priority."""

    def __init__(self, channel: socket.socket) -> None:
        super().__init__(name="predicting", daemon=True)
        self._channel = channel
        self._loaded = threading.Event()
        self._of: tuple[Any, dict[str, Any]] | None = None
        self.start()

    def begin(self, model: Any, opening: dict[str, Any]) -> None:
        """Start to predict with *model*."""
        self._of = (model, opening)
        self._loaded.set()

    def run(self) -> None:
        """Wait for the model, then answer; any exception ends the process."""
        self._loaded.wait()
        try:
            self._serve()
        except BaseException:  # noqa: BLE001  # the process ends, and the log has the reason
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)

    def _serve(self) -> None:
        from .serving import ServingLoop  # noqa: PLC0415  # imports MLflow

        if self._of is not None:
            model, opening = self._of
            ServingLoop(self._channel, model, opening).serve()
