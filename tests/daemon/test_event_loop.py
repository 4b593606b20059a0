"""The event loop of the daemon ends, whatever runs on it, and with the status of what it ran."""

import subprocess
import sys

import pytest

WITH_A_TASK_THAT_STAYS = """
import asyncio
from mlopsd import log
from mlopsd.daemon.event_loop import run

log.FLUSH_SECONDS = 30

async def stay():
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            continue

async def whole():
    task = asyncio.create_task(stay(), name="a task that stays")
    await asyncio.sleep(0)
    {end}

run(whole(), log.start("INFO", "text"))
"""


@pytest.mark.parametrize(
    ("end", "status", "reported"), [("pass", 0, ""), ("raise OSError('no way on')", 1, "OSError: no way on")]
)
def test_a_task_that_will_not_end_holds_up_no_exit_and_hides_no_failure(
    end: str, status: int, reported: str
) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", WITH_A_TASK_THAT_STAYS.format(end=end)],
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert ended.returncode == status, ended.stderr
    assert "tasks left running" in ended.stderr
    assert "a task that stays" in ended.stderr
    assert ("Traceback" in ended.stderr) == bool(reported)
    assert reported in ended.stderr
