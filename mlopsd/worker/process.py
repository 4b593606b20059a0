"""Checks that run in a process of their own: whatever hangs, crashes or hogs there costs one reading."""

import asyncio
import contextlib
import logging
import os
import random
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from mlopsd.probe import Number, ProbeError, Reading, Refused
from mlopsd.repeats import Repeats
from mlopsd.worker import descent, frames
from mlopsd.worker.output import CHUNK, LINES_PER_HOUR, pump
from mlopsd.worker.place import CLOSING_SECONDS, Nonsense, WorkerDied

PATIENCE = 2.0  # seconds between SIGTERM and SIGKILL
FIRST_PAUSE = 1.0  # seconds before a process that died is started again, doubling
LONGEST_PAUSE = 300.0
MOST_CHILDREN = 32  # of a probe; more are a leak, and its process is started afresh
KEPT_FROM_CHILDREN = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "CREDENTIALS_DIRECTORY")
PREFIXES_KEPT_FROM_CHILDREN = ("LISTEN_", "MLOPSD_")


class ProbeRaised(Exception):
    """A probe raised in its process; *traceback* is that process' own."""

    def __init__(self, kind: str, text: str, traceback: str) -> None:
        super().__init__(f"{kind}: {text}" if text else kind)
        self.traceback = traceback


class Tally(Protocol):
    """Takes what a probe counted and observed in its process."""

    def count(self, probe: str, name: str, labels: Mapping[str, str], amount: Number) -> None:
        """Add *amount* to a counter that the probe declares."""

    def observe(self, probe: str, name: str, labels: Mapping[str, str], value: Number) -> None:
        """Count *value* in a histogram that the probe declares."""


@dataclass(frozen=True, slots=True)
class Opening:
    """The first frame to a child: which probe it is to be.

    Attributes:
        target: ``package.module:Class``.
        table: the probe's own keys as they were written; secrets go by this frame, never by arguments.
    """

    name: str
    target: str
    table: Mapping[str, Any]
    state_dir: Path
    log_level: int

    def frame(self) -> frames.Frame:
        """As JSON."""
        return {
            "name": self.name,
            "target": self.target,
            "table": self.table,
            "state_dir": str(self.state_dir),
            "log_level": self.log_level,
        }


class Child:
    """One running process and the channel to it."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        printing: asyncio.ReadTransport,
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self._printing = printing
        self._ended = asyncio.get_running_loop().create_task(process.wait(), name=f"wait for {process.pid}")

    @property
    def pid(self) -> int:
        """Its process id, which is its process group's and session's too."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether it is gone and reaped."""
        return self._ended.done()

    async def ask(self, request: frames.Frame) -> dict[str, Any]:
        """Its answer to *request*.

        Raises:
            WorkerDied: it ended instead of answering.
            frames.BadFrame: its answer is none of ours.
        """
        self._writer.write(frames.encode(request))
        answer = asyncio.get_running_loop().create_task(self._receive(), name=f"answer of {self.pid}")
        try:
            await asyncio.wait({answer, self._ended}, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():  # it died, but an answer may have been on its way
                await asyncio.wait({answer}, timeout=0.1)
        finally:
            answer.cancel()
        if answer.done() and not answer.cancelled() and answer.exception() is None:
            return answer.result()
        if answer.done() and not answer.cancelled() and isinstance(answer.exception(), frames.BadFrame):
            raise answer.exception() or frames.BadFrame("no answer")
        await asyncio.wait({self._ended}, timeout=PATIENCE)
        raise WorkerDied(f"its process {self._how_it_ended()}")

    async def end(self) -> None:
        """End it and what it started: SIGTERM, `PATIENCE`, SIGKILL; never waits for what cannot be ended."""
        descent.end(self.pid, signal.SIGTERM)
        await asyncio.wait({self._ended}, timeout=PATIENCE)
        await self.kill()

    async def kill(self) -> None:
        """Kill it and what it started, and wait a moment for it to be gone."""
        descent.end(self.pid, signal.SIGKILL)
        self._writer.close()
        await asyncio.wait({self._ended}, timeout=1)
        self._printing.close()  # a process that escaped may hold the other end

    async def _receive(self) -> dict[str, Any]:
        head = await self._reader.readexactly(frames.LENGTH.size)
        return frames.decode(await self._reader.readexactly(frames.length(head)))

    def _how_it_ended(self) -> str:
        code = self._process.returncode
        if code is None:
            return "hung up without ending"
        if code < 0:
            return f"was killed by {signal.Signals(-code).name}"
        return f"ended with exit status {code}"


class ProcessWorker:
    """Asks a child process, which is started when it is needed and ended when it does not answer in time."""

    def __init__(
        self,
        opening: Opening,
        tally: Tally,
        on_restart: Callable[[], None],
        log: logging.Logger,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._opening = opening
        self._tally = tally
        self._on_restart = on_restart
        self._log = log
        self._clock = clock
        self._printed = Repeats(most=LINES_PER_HOUR)
        self._child: Child | None = None
        self._pump: asyncio.Task[None] | None = None
        self._dying: Child | None = None
        self._ending: asyncio.Task[None] | None = None
        self._deaths = 0  # since the last answer
        self._starts = 0
        self._not_before = 0.0

    @property
    def stuck(self) -> str | None:
        """A process that was killed and does not go: it is in the kernel, where no signal reaches it."""
        if self._dying is None or self._dying.ended:
            return None
        return f"its process {self._dying.pid} was killed and does not end; it is stuck in a system call"

    async def check(self) -> Reading:
        """Ask for a reading; cancelled, the child is ended in the background.

        Raises:
            WorkerDied: the child ended instead of answering.
            ProbeRaised: the probe raised.
            ProbeError: the child died before and is not started again yet.
            Nonsense: the answer is no reading.
        """
        answer = await self._ask({"do": "check"})
        try:
            return frames.to_reading(answer["reading"])
        except (KeyError, frames.BadFrame) as error:
            raise Nonsense(f"its process answered nonsense: {error}") from error

    async def reload(self, *, dry_run: bool, force: bool) -> str:
        """Have the probe reload in its process."""
        answer = await self._ask({"do": "reload", "dry_run": dry_run, "force": force})
        return str(answer.get("said", ""))

    async def close(self) -> None:
        """Let the probe release what it holds, then end its process, whatever it is doing."""
        if self._ending is not None:
            self._ending.cancel()
        if self._child is not None and self._dying is None:
            with contextlib.suppress(TimeoutError, WorkerDied, frames.BadFrame):
                await asyncio.wait_for(self._child.ask({"do": "close"}), CLOSING_SECONDS)
        for child in (self._child, self._dying):
            if child is not None:
                await child.kill()

    async def _ask(self, request: frames.Frame) -> dict[str, Any]:
        child = await self._running()
        try:
            answer = await child.ask(request)
        except (WorkerDied, frames.BadFrame, asyncio.CancelledError) as error:
            self._discard(child)
            if isinstance(error, frames.BadFrame):
                raise Nonsense(f"its process answered nonsense: {error}") from error
            raise
        self._deaths = 0
        self._take(answer)
        if answer.get("children", 0) > MOST_CHILDREN:
            self._discard(child)
            raise ProbeError(f"it left {answer['children']} processes behind; its process was started afresh")
        return answer

    def _take(self, answer: Mapping[str, Any]) -> None:
        """Pass on what was logged, counted and observed; raise what was raised."""
        name = self._opening.name
        log = logging.getLogger(f"mlopsd.probe.{name}")
        for level, event, fields in answer.get("log", ()):
            log.log(level, "%s", event, extra={"probe": name, **fields})
        for metric, labels, amount in answer.get("counts", ()):
            self._tally.count(name, metric, dict(labels), amount)
        for metric, labels, value in answer.get("observations", ()):
            self._tally.observe(name, metric, dict(labels), value)
        if error := answer.get("error"):
            _raise(error)

    async def _running(self) -> Child:
        if self._child is not None:
            return self._child
        pause = self._not_before - self._clock()
        if pause > 0:
            raise ProbeError(f"its process died {self._deaths} times in a row; next start in {pause:.0f} s")
        if self._starts:
            self._on_restart()
        self._starts += 1
        self._child = await self._spawn()
        return self._child

    async def _spawn(self) -> Child:
        ours, theirs = socket.socketpair()
        printed, print_to = os.pipe()
        with theirs, os.fdopen(print_to, "wb") as print_to_file:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-P", "-u", "-m", "mlopsd.worker.child", str(theirs.fileno()), str(os.getpid())),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=print_to_file,
                stderr=asyncio.subprocess.STDOUT,
                cwd="/",
                env=_environment(),
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        reader, writer = await asyncio.open_connection(sock=ours)
        writer.write(frames.encode(self._opening.frame()))
        return Child(process, reader, writer, await self._listen(printed))

    async def _listen(self, printed: int) -> asyncio.ReadTransport:
        """Log what comes out of the pipe *printed* until it is closed at either end."""
        stream = asyncio.StreamReader(limit=CHUNK)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(printed, "rb", 0)
        )
        name = self._opening.name
        self._pump = loop.create_task(pump(stream, self._log, name, self._printed), name=f"output of {name}")
        return transport

    def _discard(self, child: Child) -> None:
        """Take *child* out of service, end it in the background, and put off its successor."""
        self._child, self._dying = None, child
        self._deaths += 1
        pause = min(FIRST_PAUSE * 2 ** (self._deaths - 1), LONGEST_PAUSE)
        self._not_before = self._clock() + pause * random.uniform(0.8, 1.2)  # jitter
        self._ending = asyncio.get_running_loop().create_task(child.end(), name=f"end {child.pid}")


def _environment() -> dict[str, str]:
    """What a probe may know of our environment: not how to speak to systemd, and no secret of ours."""
    return {
        name: value
        for name, value in os.environ.items()
        if name not in KEPT_FROM_CHILDREN and not name.startswith(PREFIXES_KEPT_FROM_CHILDREN)
    }


def _raise(error: Mapping[str, str]) -> None:
    if error["kind"] == "refused":
        raise Refused(error["text"])
    if error["kind"] == "nonsense" or error.get("type") == "Nonsense":
        raise Nonsense(error["text"])
    if error["type"] == "ProbeError":
        raise ProbeError(error["text"])
    raise ProbeRaised(error["type"], error["text"], error["traceback"])
