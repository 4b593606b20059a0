"""A running child process with a channel of its own; the lines that it prints are logged."""

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

PATIENCE = 2.0  # seconds between SIGTERM and SIGKILL
LAST_WORDS = 1.0  # seconds after the end of a process when its channel ends, whoever else may hold it
STUCK_AFTER = 1.0  # seconds after SIGKILL when a process that goes on is the kernel's
BYTES_PER_SECOND = 1024 * 1024  # a process that prints faster waits, and runs into its own deadline
LINES_PER_HOUR = 50
LONGEST_LINE = 500
CHUNK = 64 * 1024
CHANNEL = "{channel}"  # in a command: the number of the channel's file descriptor
PARENT = "{parent}"  # in a command: our process id
KEPT_FROM_CHILDREN = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "CREDENTIALS_DIRECTORY")
PREFIXES_KEPT_FROM_CHILDREN = ("LISTEN_", "MLOPSD_")


async def spawn(
    command: Sequence[str],
    name: str,
    log: logging.Logger,
    printed: LogLimiter | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    cwd: str = "/",
    pass_fds: Sequence[int] = (),
) -> "Child":
    """Start *command* in a session of its own; log the lines that it prints under *name*.

    All that it starts inherits a mark in its environment, by which it is found when the process has ended.
    In *command* ``{channel}`` stands for its end of the channel (a connected stream socket's file
    descriptor) and ``{parent}`` for our pid. *printed* keeps repeated lines out of the log, which processes
    that follow one another may share. *environment* is all that it gets, or what of ours is
    harmless if left out. It inherits the descriptors *pass_fds*, which stay open here too.

    Raises:
        OSError: it cannot be started.
    """
    mark = tree.new_mark()
    inherited = harmless_environment() if environment is None else environment
    with contextlib.ExitStack() as our_ends:  # which are closed if it does not come to a process
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


def harmless_environment() -> dict[str, str]:
    """Return the daemon's environment for a child, without its secrets and the variables of systemd."""
    return {
        name: value
        for name, value in os.environ.items()
        if name not in KEPT_FROM_CHILDREN and not name.startswith(PREFIXES_KEPT_FROM_CHILDREN)
    }


def _filled(part: str, channel: socket.socket) -> str:
    return part.replace(CHANNEL, str(channel.fileno())).replace(PARENT, str(os.getpid()))


class _Printer:
    """A reader that logs the lines of a pipe until either end is closed."""

    def __init__(self, transport: asyncio.ReadTransport, pumping: asyncio.Task[None]) -> None:
        self._transport = transport
        self._pumping = pumping  # held here, so that it lives as long as the pipe

    @classmethod
    async def listen(
        cls, read_end: IO[bytes], name: str, log: logging.Logger, printed: LogLimiter
    ) -> "_Printer":
        stream = asyncio.StreamReader(limit=CHUNK)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stream), read_end)
        return cls(transport, loop.create_task(_pump(stream, log, name, printed), name=f"output of {name}"))

    def close(self) -> None:
        """Close this end, without waiting: a process that escaped may hold the other end."""
        self._transport.close()


class Child:
    """A running process.

    Attributes:
        reader: what it sends over its channel.
        writer: what is sent to it.
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
        """The process ID, which is also that of its process group and session."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """True once it is reaped; its process ID may then be another process's."""
        return self._ended.done()

    async def wait(self, within: float | None = None) -> bool:
        """Wait for the end, at most *within* seconds; return true if it has ended."""
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
        """End the channel `LAST_WORDS` after the process; its reader must leave nothing unread till then."""
        loop = asyncio.get_running_loop()
        self._ended.add_done_callback(lambda _: loop.call_later(LAST_WORDS, self.writer.transport.abort))

    def how_it_ended(self) -> str:
        """Return the end in words: "was killed by SIGSEGV", "ended with exit status 7"."""
        code = self._process.returncode
        if code is None:
            return "hung up without ending"
        if code < 0:
            return f"was killed by {_name(-code)}"
        return f"ended with exit status {code}"

    @property
    def was_killed(self) -> bool:
        """True if it ended by SIGKILL, which the kernel sends when memory runs out."""
        return self.ended_by == signal.SIGKILL

    @property
    def ended_by(self) -> int | None:
        """Return the number of the signal that ended it; None if none did, or not yet."""
        code = self._process.returncode
        return -code if code is not None and code < 0 else None

    async def _clear_up(self) -> None:
        """End the descendants at once, before the process ID can be another process's."""
        await self._ended
        procfs.WAITED_FOR.discard(self.pid)
        await tree.end_what_is_left(self.pid, self._family, self._mark)

    def _signal(self, number: signal.Signals) -> None:
        if not self.ended:
            self._family.update(tree.end(self.pid, number))


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal between the two that have names
        return f"signal {number}"


async def _pump(stream: asyncio.StreamReader, log: logging.Logger, name: str, printed: LogLimiter) -> None:
    """Read *stream* to its end; log new lines and skip the rest."""
    rest = b""
    while chunk := await stream.read(CHUNK):
        *lines, rest = (rest + chunk).split(b"\n")
        rest = rest[-CHUNK:]
        for line in lines[:LINES_PER_HOUR]:
            _log(line, log, name, printed)
        await asyncio.sleep(len(chunk) / BYTES_PER_SECOND)
    if rest:
        _log(rest, log, name, printed)


def _log(line: bytes, log: logging.Logger, name: str, printed: LogLimiter) -> None:
    text = line[:LONGEST_LINE].decode(errors="replace").strip()
    if text and printed.worth_saying(text) is not None:
        log.info("probe printed", extra={"probe": name, "line": text})
