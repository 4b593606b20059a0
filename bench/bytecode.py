"""Sees to it that nothing is compiled while it is measured, as pip sees to it for what it installs."""

import os
from contextlib import suppress
from pathlib import Path

from bench.peers.service import Service
from bench.server import DaemonServer, Missing
from bench.web import wait_for_answer


def compile_everything(room: Path) -> None:
    """Start and stop each Python server once; what that compiles is kept in *room* for all that follow."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = str(room / "bytecode")
    with DaemonServer(room / "daemon") as daemon:
        wait_for_answer(daemon.port, "/health/", 60)
    with suppress(Missing), Service(room / "service") as service:
        wait_for_answer(service.port, "/metrics", 60)
