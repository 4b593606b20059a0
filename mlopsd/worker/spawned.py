"""One running process of a probe: how it is started, asked and ended."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from mlopsd.repeats import Repeats
from mlopsd.worker import descent, frames
from mlopsd.worker.output import CHUNK, pump
from mlopsd.worker.place import WorkerDied

PATIENCE = 2.0  # seconds between SIGTERM and SIGKILL
STUCK_AFTER = 1.0  # seconds after SIGKILL when a process that goes on is the kernel's
LAST_WORDS = 0.1  # seconds for an answer that was on its way when its process ended
KEPT_FROM_CHILDREN = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "CREDENTIALS_DIRECTORY")
PREFIXES_KEPT_FROM_CHILDREN = ("LISTEN_", "MLOPSD_")


@dataclass(frozen=True, slots=True)
class Opening:
    """The first frame to a process: which probe it is to be.

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


async def spawn(opening: Opening, log: logging.Logger, printed: Repeats) -> "Spawned":
    """Start a process for the probe of *opening*; what it prints goes to *log*."""
    with contextlib.ExitStack() as our_ends:  # which are closed if it does not come to a process
        ours, theirs = socket.socketpair()
        our_ends.enter_context(ours)
        with theirs:
            read_end, write_end = os.pipe()
            printed_end = our_ends.enter_context(os.fdopen(read_end, "rb", 0))
            with os.fdopen(write_end, "wb") as output:
                process = await _execute(theirs, output)
        reader, writer = await asyncio.open_connection(sock=ours)
        printer = await _Printer.listen(printed_end, opening.name, log, printed)
        our_ends.pop_all()
    writer.write(frames.encode(opening.frame()))
    return Spawned(process, reader, writer, printer)


async def _execute(channel: socket.socket, output: IO[bytes]) -> asyncio.subprocess.Process:
    command = ("-P", "-u", "-m", "mlopsd.worker.child", str(channel.fileno()), str(os.getpid()))
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=output,
        stderr=asyncio.subprocess.STDOUT,
        cwd="/",
        env=_environment(),
        pass_fds=(channel.fileno(),),
        start_new_session=True,
    )


class _Printer:
    """Logs what comes out of a pipe until it is closed at either end."""

    def __init__(self, transport: asyncio.ReadTransport, pumping: asyncio.Task[None]) -> None:
        self._transport = transport
        self._pumping = pumping  # held here, so that it lives as long as the pipe

    @classmethod
    async def listen(
        cls, read_end: IO[bytes], name: str, log: logging.Logger, printed: Repeats
    ) -> "_Printer":
        stream = asyncio.StreamReader(limit=CHUNK)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stream), read_end)
        return cls(transport, loop.create_task(pump(stream, log, name, printed), name=f"output of {name}"))

    def close(self) -> None:
        """A process that escaped may hold the other end, so nobody waits for it."""
        self._transport.close()


class Spawned:
    """A running process and the channel to it."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        printer: _Printer,
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self._printer = printer
        self._family: set[int] = set()  # descendants that were signalled
        loop = asyncio.get_running_loop()
        self._ended = loop.create_task(process.wait(), name=f"wait for {process.pid}")
        self._cleared = loop.create_task(self._clear_up(), name=f"clear up after {process.pid}")

    @property
    def pid(self) -> int:
        """Its process id, which is its process group's and session's too."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether it is gone and reaped; its pid may be somebody else's then."""
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
            return await asyncio.wait_for(answer, None if answer.done() else LAST_WORDS)
        except (TimeoutError, asyncio.IncompleteReadError, ConnectionError) as error:
            await asyncio.wait({self._ended}, timeout=PATIENCE)
            raise WorkerDied(f"its process {self._how_it_ended()}") from error
        finally:
            answer.cancel()

    async def end(self) -> None:
        """End it and what it started: SIGTERM, `PATIENCE`, SIGKILL; never waits for what cannot be ended."""
        self._signal(signal.SIGTERM)
        await asyncio.wait({self._ended}, timeout=PATIENCE)
        await self.kill()

    async def kill(self) -> None:
        """Kill it and what it started, and wait a moment for it to be gone."""
        self._signal(signal.SIGKILL)
        self._writer.close()
        await asyncio.wait({self._cleared}, timeout=STUCK_AFTER)
        self._printer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()

    async def _clear_up(self) -> None:
        """At once after its end, while its pid cannot be anybody else's yet."""
        await self._ended
        await descent.end_what_is_left(self.pid, self._family)

    def _signal(self, number: signal.Signals) -> None:
        if not self.ended:
            self._family.update(descent.end(self.pid, number))

    async def _receive(self) -> dict[str, Any]:
        head = await self._reader.readexactly(frames.LENGTH.size)
        return frames.decode(await self._reader.readexactly(frames.length(head)))

    def _how_it_ended(self) -> str:
        code = self._process.returncode
        if code is None:
            return "hung up without ending"
        if code < 0:
            return f"was killed by {_name(-code)}"
        return f"ended with exit status {code}"


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal between the two that have names
        return f"signal {number}"


def _environment() -> dict[str, str]:
    """What a probe may know of our environment: not how to speak to systemd, and no secret of ours.

    The mark is inherited by all that the process starts, and tells it from other processes.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in KEPT_FROM_CHILDREN and not name.startswith(PREFIXES_KEPT_FROM_CHILDREN)
    }
    return {**kept, descent.MARK: str(os.getpid())}
