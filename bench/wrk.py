"""wrk, which asks over and over from one thread, on a core of its own."""

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.cores import CALLERS, on_core
from bench.server import program

REPORT = """done = function(summary, latency, requests)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  io.stderr:write(string.format('{"answers": %d, "seconds": %f, "p50": %f, "p99": %f, "failed": %d}\\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50), latency:percentile(99), failed))
end
"""
PATIENCE_SECONDS = 20


@dataclass(frozen=True, slots=True)
class WrkResult:
    """What came: how many answers in how many seconds, microseconds of each, and how many were no answers."""

    answers: int
    seconds: float
    p50: float
    p99: float
    failed: int


class Wrk:
    """Asks; *room* has its script.

    Raises:
        Missing: it is not installed.
    """

    def __init__(self, room: Path) -> None:
        self._command = program("wrk", "wrk")
        self._script = room / "report.lua"
        self._script.write_text(REPORT, "utf-8")

    def ask(
        self, port: int, path: str, connections: int, seconds: float, headers: Mapping[str, str]
    ) -> WrkResult:
        """GET *path* over *connections* for so many whole *seconds*, again with each answer."""
        size = ["-t", "1", "-c", str(connections), "-d", f"{max(round(seconds), 1)}s"]
        how = [*size, "--timeout", f"{PATIENCE_SECONDS}s", "-s", str(self._script)]
        for name, value in headers.items():
            how += ["-H", f"{name}: {value}"]
        with on_core(CALLERS):
            done = subprocess.run(
                [self._command, *how, f"http://127.0.0.1:{port}{path}"],
                capture_output=True,
                check=True,
                timeout=seconds + 2 * PATIENCE_SECONDS,
            )
        return WrkResult(**json.loads(done.stderr.splitlines()[-1]))
