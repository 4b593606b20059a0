"""``mlopsd run``, started again when it ends as systemd would, and all that it logs."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections import Counter, deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chaos import kin
from chaos.timeline import Timeline

RESTART_SECONDS = 0.3
LONGEST_LINE = 16 * 2**20
KEPT_LINES = 400
TRACEBACK = "Traceback (most recent call last)"
PROBE_FAILURES = ("probe check failed",)
MODEL_PRINTED = ("probe printed", "model")  # a version that fails its load says so itself
ORPHAN_SECONDS = 5.0


class DaemonProcess:
    """Runs with the file *config* on *port*; restarts are excused only if somebody here killed it."""

    def __init__(self, config: Path, port: int, environment: Mapping[str, str], timeline: Timeline) -> None:
        self._command = ["-m", "mlopsd", "run", "--config", str(config), "--port", str(port)]
        self._environment = {**os.environ, **environment}
        self._timeline = timeline
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = False
        self._killed = False
        self.listening = asyncio.Event()
        self.tail: deque[str] = deque(maxlen=KEPT_LINES)
        self.lines = 0
        self.events: Counter[str] = Counter()
        self.starts = 0
        self.may_fail_to_start = False

    @property
    def pid(self) -> int:
        """Of the process that runs now."""
        assert self._process is not None
        return self._process.pid

    async def supervise(self) -> None:
        """Start it, and start it again, until told to stop."""
        while not self._stopping:
            await self._live()
            self.listening.clear()
            if not self._stopping:
                self._judge_end()
                await asyncio.sleep(RESTART_SECONDS)

    async def kill(self) -> None:
        """SIGKILL; none of its processes may outlive it."""
        left = kin.family(self.pid)
        self._killed = True
        self._timeline.open("down")
        self.listening.clear()
        self.signal(signal.SIGKILL)
        deadline = asyncio.get_running_loop().time() + ORPHAN_SECONDS
        while any(one.is_there for one in left):
            if asyncio.get_running_loop().time() > deadline:
                orphans = [one.pid for one in left if one.is_there]
                self._timeline.violate("no orphan", f"{orphans} outlived the daemon by {ORPHAN_SECONDS:g} s")
                return
            await asyncio.sleep(0.05)

    def signal(self, number: signal.Signals) -> None:
        """Send *number*."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def freeze(self) -> None:
        """SIGSTOP."""
        self._timeline.open("stopped")
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self.signal(signal.SIGCONT)
        self._timeline.close("stopped")

    async def listening_again(self) -> None:
        """Wait until it listens."""
        await self.listening.wait()

    async def stop(self) -> float:
        """SIGTERM; the seconds until it was gone."""
        self._stopping = True
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert self._process is not None
        self.signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self._process.wait(), 20)
        except TimeoutError:
            self.signal(signal.SIGKILL)
        return loop.time() - began

    def end(self) -> None:
        """SIGKILL, if it runs at all."""
        if self._process is not None and self._process.returncode is None:
            self.signal(signal.SIGKILL)

    async def _live(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            *self._command,
            stderr=asyncio.subprocess.PIPE,
            env=self._environment,
            limit=LONGEST_LINE,
            start_new_session=True,
        )
        self.starts += 1
        assert self._process.stderr is not None
        async for line in self._process.stderr:
            self._take(line.decode(errors="replace").rstrip())
        await self._process.wait()

    def _take(self, line: str) -> None:
        self.lines += 1
        self.tail.append(line[:2000])
        record = _parsed(line)
        if record is None:
            if not self.may_fail_to_start:
                self._timeline.violate("the journal is JSON", line[:300])
            return
        if record.get("event") == "listening":
            self._killed = False
            self.listening.set()
            self._timeline.close("down")
        self.events[str(record.get("event"))] += 1
        if TRACEBACK in line and not _is_a_probes_own(record):
            self._timeline.violate("no traceback in the journal", line[-600:])

    def _judge_end(self) -> None:
        assert self._process is not None
        if not (self._killed or self.may_fail_to_start):
            self._timeline.violate(
                "the daemon lives", f"it ended by itself with status {self._process.returncode}"
            )


def _is_a_probes_own(record: Mapping[str, Any]) -> bool:
    event = record.get("event")
    return event in PROBE_FAILURES or (event, record.get("probe")) == MODEL_PRINTED


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
