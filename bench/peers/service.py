"""The service of `bench.peers.app` under uvicorn, as its documents say to run it."""

import sys
from importlib.util import find_spec
from pathlib import Path

from bench.door import ROOT
from bench.server import Missing, Server
from tests.running import free_port

NEEDED = ("fastapi", "uvicorn", "prometheus_client", "psutil")


class Service(Server):
    """One worker, no access log (the daemon writes none for these requests either), with *series* to show.

    Raises:
        Missing: a part of it is not installed.
    """

    def __init__(self, room: Path, series: int = 0) -> None:
        for name in NEEDED:
            if find_spec(name) is None:
                raise Missing(
                    f"no {name}; install it with: pip install fastapi uvicorn prometheus-client psutil"
                )
        room.mkdir(parents=True)
        port = free_port()
        command = [sys.executable, "-m", "uvicorn", "bench.peers.app:app", "--port", str(port)]
        environment = {"PEER_SERIES": str(series), "PYTHONPATH": str(ROOT)}
        super().__init__([*command, "--no-access-log"], port, room / "log", environment)
