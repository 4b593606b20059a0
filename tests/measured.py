"""The children of a test under coverage: they are measured, and have the time to write what was measured.

The product gives some of its children a bare environment and ends them by SIGKILL. Coverage starts by a
variable, and writes its data at SIGTERM.
"""

import asyncio
import os
import signal
import subprocess
from contextlib import suppress
from typing import Any

from mlopsd.process.child import Child
from tests.processes import command

PRODUCT = (b"mlopsd.worker.child", b"mlopsd_probes.registry.child", b"mlopsd_host")  # of its own children
VARIABLE = "COVERAGE_PROCESS_CONFIG"
PATIENCE = 5.0  # seconds for writing; who takes longer is not counted


def measure_children() -> None:
    """Let what this process starts be measured, if this process is."""
    if VARIABLE in os.environ:
        _pass_variable_on()
        _give_time_to_write()


def end(process: subprocess.Popen[str]) -> None:
    """Kill *process* and wait for its end; if it is measured, let it write before."""
    if VARIABLE in os.environ:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE)
    process.kill()
    process.wait()


def _pass_variable_on() -> None:
    start = asyncio.create_subprocess_exec

    async def started(*command: str, env: dict[str, str] | None = None, **options: Any) -> Any:
        measured = None if env is None else {**env, VARIABLE: os.environ[VARIABLE]}
        return await start(*command, env=measured, **options)

    asyncio.create_subprocess_exec = started  # type: ignore[assignment]


def _give_time_to_write() -> None:
    kill = Child.kill

    async def ended(child: Child) -> None:
        if not child.ended and any(part in command(child.pid) for part in PRODUCT):
            with suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGTERM)
            await child.wait(PATIENCE)
        await kill(child)

    Child.kill = ended  # type: ignore[assignment, method-assign]
