"""A running child process with a channel. The daemon logs the lines that it prints."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Mapping, Sequence
from typing import IO

from mlopsd.log_limit import LogLimiter
from mlopsd.process import procfs, tree
from mlopsd.process.environment import harmless_environment

PATIENCE = 2.0  # seconds between SIGTERM and SIGKILL
LAST_WORDS = 1.0  # seconds from the end of a process to that of its channel, even if another process holds it
STUCK_AFTER = 1.0  # seconds after SIGKILL; a process that is left then hangs in the kernel
BYTES_PER_SECOND = 1024 * 1024  # a process that prints faster blocks, and reaches its timeout
LINES_PER_HOUR = 50
LONGEST_LINE = 500
CHUNK = 64 * 1024
CHANNEL = "{channel}"  # in a command: the number of the channel's file descriptor
PARENT = "{parent}"  # in a command: our process id

Log = logging.Logger | logging.LoggerAdapter[logging.Logger]


async def spawn(
    command: Sequence[str],
    name: str,
    log: Log,
    printed: LogLimiter | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    cwd: str = "/",
    pass_fds: Sequence[int] = (),
) -> "Child":
    """Start *command* in a session of its own, and log the lines that it prints.

    Its descendants inherit a mark in their environment, by which the daemon finds them after its end.

    Args:
        command: The command. ``{channel}`` stands for its file descriptor of the channel, a connected stream
            socket, and ``{parent}`` for the daemon's pid.
        name: The name for the logged lines.
        log: The logger for them; an adapter may change their fields.
        printed: The limiter of repeated lines. Successive processes may share one.
        environment: The whole environment; by default the daemon's without secrets.
        cwd: The working directory.
        pass_fds: Descriptors that it inherits. They stay open in the daemon too.

    Raises:
        OSError: The process cannot be started.
    """
    mark = tree.new_mark()
    inherited = harmless_environment() if environment is None else environment
    with contextlib.ExitStack() as our_ends:  # closed again if the start fails
        ours, theirs = socket.socketpair()
        our_ends.enter_context(ours)
        with theirs:
            read_end, write_end = os.pipe()
            printed_end = our_ends.enter_context(os.fdopen(read_end, "rb", 0))
            with os.fdopen(write_end, "wb") as output:
                process = await asyncio.create_subprocess_exec(
                    *(_filled(part, theirs) for part in command),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=asyncio.subprocess.STDOUT,
                    cwd=cwd,
                    env={**inherited, tree.MARK: mark},
                    pass_fds=(theirs.fileno(), *pass_fds),
                    start_new_session=True,
                )
        reader, writer = await asyncio.open_connection(sock=ours)
        printer = await _Printer.listen(printed_end, name, log, printed or LogLimiter())
        our_ends.pop_all()
    return Child(process, reader, writer, printer, mark)


def _filled(part: str, channel: socket.socket) -> str:
    return part.replace(CHANNEL, str(channel.fileno())).replace(PARENT, str(os.getpid()))


class _Printer:
    """The task that logs the lines of a pipe until one end is closed."""

    def __init__(self, transport: asyncio.ReadTransport, pumping: asyncio.Task[None]) -> None:
        self._transport = transport
        self._pumping = pumping  # this reference keeps the task alive

    @classmethod
    async def listen(cls, read_end: IO[bytes], name: str, log: Log, printed: LogLimiter) -> "_Printer":
        stream = asyncio.StreamReader(limit=CHUNK)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stream), read_end)
        return cls(transport, loop.create_task(_pump(stream, log, name, printed), name=f"output of {name}"))

    def close(self) -> None:
        """Close this end without waiting: an escaped process may hold the other end."""
        self._transport.close()


class Child:
    """A running process.

    Attributes:
        reader: The stream from the process.
        writer: The stream to the process.
    """

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        printer: _Printer,
        mark: str,
    ) -> None:
        procfs.WAITED_FOR.add(process.pid)
        self._process = process
        self.reader = reader
        self.writer = writer
        self._printer = printer
        self._mark = mark
        self._family: set[int] = set()  # descendants that were signalled
        loop = asyncio.get_running_loop()
        self._ended = loop.create_task(process.wait(), name=f"wait for {process.pid}")
        self._cleared = loop.create_task(self._clear_up(), name=f"clear up after {process.pid}")

    @property
    def pid(self) -> int:
        """Return the process ID, which is also that of its process group and session."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Return whether it is reaped. Its process ID may belong to another process then."""
        return self._ended.done()

    async def wait(self, within: float | None = None) -> bool:
        """Wait for the end, for at most *within* seconds; return whether it has ended."""
        await asyncio.wait({self._ended}, timeout=within)
        return self.ended

    async def end(self) -> None:
        """End it and its descendants: SIGTERM, `PATIENCE`, SIGKILL; leave one that cannot be ended."""
        self._signal(signal.SIGTERM)
        await asyncio.wait({self._ended}, timeout=PATIENCE)
        await self.kill()

    async def kill(self) -> None:
        """Kill it and its descendants, and wait a moment for its end."""
        self._signal(signal.SIGKILL)
        self.writer.transport.abort()  # close() would wait for who does not read any more
        await asyncio.wait({self._cleared}, timeout=STUCK_AFTER)
        self._printer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()

    def hang_up_when_ended(self) -> None:
        """Close the channel `LAST_WORDS` after the end of the process. Its reader must be done by then."""
        loop = asyncio.get_running_loop()
        self._ended.add_done_callback(lambda _: loop.call_later(LAST_WORDS, self.writer.transport.abort))

    def how_it_ended(self) -> str:
        """Return how it ended: "was killed by SIGSEGV", "ended with exit status 7"."""
        code = self._process.returncode
        if code is None:
            return "closed its channel without ending"
        if code < 0:
            return f"was killed by {_name(-code)}"
        return f"ended with exit status {code}"

    @property
    def was_killed(self) -> bool:
        """Return whether SIGKILL ended it. The kernel sends it when memory runs out."""
        return self.ended_by == signal.SIGKILL

    @property
    def ended_by(self) -> int | None:
        """Return the number of the signal that ended it, or None."""
        code = self._process.returncode
        return -code if code is not None and code < 0 else None

    async def _clear_up(self) -> None:
        """End the descendants at once, before another process can get the process ID."""
        await self._ended
        procfs.WAITED_FOR.discard(self.pid)
        await tree.kill_orphans(self.pid, self._family, self._mark)

    def _signal(self, number: signal.Signals) -> None:
        if not self.ended:
            self._family.update(tree.end(self.pid, number))


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal without a name
        return f"signal {number}"


async def _pump(stream: asyncio.StreamReader, log: Log, name: str, printed: LogLimiter) -> None:
    """Read *stream* to its end; log new lines, skip repeated ones."""
    rest = b""
    while chunk := await stream.read(CHUNK):
        *lines, rest = (rest + chunk).split(b"\n")
        rest = rest[-CHUNK:]
        _log(new_lines(lines, printed), log, name)
        await asyncio.sleep(len(chunk) / BYTES_PER_SECOND)
    _log(new_lines([rest], printed), log, name)


def _log(lines: Sequence[str], log: Log, name: str) -> None:
    for line in lines:
        log.info("probe printed", extra={"probe": name, "line": line})


def new_lines(lines: Sequence[bytes], printed: LogLimiter) -> list[str]:
    """Return the printed *lines* as text, shortened, without empty and repeated ones."""
    texts = [line[:LONGEST_LINE].decode(errors="replace").strip() for line in lines[:LINES_PER_HOUR]]
    return [text for text in texts if text and printed.allow(text) is not None]
