"""Sees to it that nothing is compiled while it is measured, as pip sees to it for what it installs."""

import os
from pathlib import Path

from bench.server import Daemon
from bench.web import wait_for_answer


def compile_everything(room: Path) -> None:
    """Start and stop a daemon once; what that compiles is kept in *room* for all that are started later."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = str(room / "bytecode")
    with Daemon(room / "daemon") as daemon:
        wait_for_answer(daemon.port, "/health/", 60)
