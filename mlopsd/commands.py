"""Commands of a probe: their output within a time limit, with nothing left behind.

::

    from mlopsd.commands import run

    def check(self) -> Reading:
        output = run(["smartctl", "--json", "-a", "/dev/sda"], timeout=0.8 * self.context.timeout)
        return self.judge(output.status, output.stdout)

`run` is for a plain ``def check`` in a thread or a process, `run_async` for a coroutine.
"""

import contextlib
import errno
import math
import os
import selectors
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from mlopsd.probe import ProbeError
from mlopsd.process.environment import harmless_environment

__all__ = ["CommandFailed", "CommandOutput", "run", "run_async"]

MOST_OUTPUT = 64 * 1024  # bytes of each stream
SUPERVISOR = Path(__file__).parent / "process" / "supervisor.py"
ENDING_SECONDS = 2.0  # for the supervisor to kill the command and to end
CHUNK = 64 * 1024
LONGEST_NAME = 200  # characters of a command in a message
FIXES = {
    errno.ENOENT: "there is no such program; install it, or write its whole path",
    errno.EACCES: "permission denied; let the user of mlopsd run it",
    errno.ENOEXEC: "it is not a program; start it with its interpreter",
}

Argument = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class CommandOutput:
    """The output of a command that has ended.

    Attributes:
        status: The exit status, or minus the number of the signal that killed it.
        stdout: The first `MOST_OUTPUT` bytes of its standard output, as UTF-8.
        stderr: The same of its standard error.
        is_cut: True if it wrote more than that.
    """

    status: int
    stdout: str
    stderr: str
    is_cut: bool = False


class CommandFailed(ProbeError):
    """The error of a command without a result, or with a bad exit status: `output` has what it wrote."""

    def __init__(self, message: str, output: CommandOutput | None = None) -> None:
        super().__init__(message)
        self.output = output


def run(
    argv: Sequence[Argument],
    *,
    timeout: float,
    environment: Mapping[str, str] | None = None,
    cwd: Argument = "/",
    check: bool = False,
) -> CommandOutput:
    """Run *argv* without a shell and return its output. Kill everything that it started and left.

    The command reads an empty standard input. It runs in a session of its own. It dies with the caller's
    process.

    Args:
        argv: The program and its arguments.
        timeout: The seconds that it may take.
        environment: The whole environment; by default that of the daemon without its secrets.
        cwd: The working directory.
        check: True to raise `CommandFailed` for an exit status other than 0.

    Raises:
        CommandFailed: It cannot be started, it took too long, or *check* found a bad exit status.
        TypeError: *argv* is no list of texts.
        ValueError: *timeout* is no finite number above 0.
    """
    with _started(argv, environment, cwd) as command:
        return _checked(command.name, command.output(timeout), check=check)


async def run_async(
    argv: Sequence[Argument],
    *,
    timeout: float,  # noqa: ASYNC109  # the signature of `run`; the thread keeps the time
    environment: Mapping[str, str] | None = None,
    cwd: Argument = "/",
    check: bool = False,
) -> CommandOutput:
    """Do the same as `run` for a coroutine. If the caller is cancelled, kill the command at once.

    Raises:
        CommandFailed: It cannot be started, it took too long, or *check* found a bad exit status.
    """
    from mlopsd.threads import in_thread  # noqa: PLC0415  # asyncio takes 10 MiB, which `run` does not need

    gone, ours = os.pipe()  # the end of file in *stop* is the order to stop
    stop = open(gone, "rb", 0)  # noqa: ASYNC230, PTH123, SIM115  # a pipe, which the thread closes

    def call() -> CommandOutput:
        with stop, _started(argv, environment, cwd) as command:
            return _checked(command.name, command.output(timeout, stop), check=check)

    try:
        return await in_thread(f"command {argv[:1]}", call)
    finally:
        os.close(ours)


def _checked(name: str, output: CommandOutput, *, check: bool) -> CommandOutput:
    if not check or output.status == 0:
        return output
    last = next((line for line in reversed(output.stderr.splitlines()) if line.strip()), "no message")
    raise CommandFailed(f"cannot use {name}: it {_how_it_ended(output.status)}: {last[:200]}", output)


def _how_it_ended(status: int) -> str:
    if status >= 0:
        return f"ended with exit status {status}"
    with contextlib.suppress(ValueError):  # a real-time signal has no name
        return f"was killed by {signal.Signals(-status).name}"
    return f"was killed by signal {-status}"


def _name(argv: Sequence[Argument]) -> str:
    """Return *argv* as a person would type it, shortened."""
    typed = shlex.join(os.fspath(part) for part in argv)
    return typed if len(typed) <= LONGEST_NAME else f"{typed[:LONGEST_NAME]}…"


class _Stream:
    """One stream of the command, of which the first `MOST_OUTPUT` bytes are kept."""

    def __init__(self, file: IO[bytes]) -> None:
        os.set_blocking(file.fileno(), False)
        self.file = file
        self.is_cut = False
        self._kept = bytearray()

    def read(self) -> bool:
        """Read what the pipe holds, at most its size; return whether there can be more."""
        try:
            chunk = os.read(self.file.fileno(), CHUNK)
        except BlockingIOError:
            return True
        room = MOST_OUTPUT - len(self._kept)
        self._kept += chunk[:room]
        self.is_cut = self.is_cut or len(chunk) > room
        return chunk != b""

    @property
    def text(self) -> str:
        """Return what was kept."""
        return self._kept.decode(errors="replace")


@contextlib.contextmanager
def _started(
    argv: Sequence[Argument], environment: Mapping[str, str] | None, cwd: Argument
) -> Iterator["_Command"]:
    """Start *argv* under its supervisor, and end both at the end.

    Raises:
        CommandFailed: The supervisor cannot be started.
        TypeError: *argv* is no list of texts.
    """
    if isinstance(argv, str | bytes) or not argv:
        raise TypeError(f"cannot run {argv!r}: it is no list of texts; write ['program', 'argument']")
    name = _name(argv)
    read_end, write_end = os.pipe()
    with open(read_end, "rb", 0) as report:  # noqa: PTH123  # a pipe
        try:
            process = _spawn(argv, write_end, environment, cwd)
        except (OSError, ValueError) as error:
            raise CommandFailed(f"cannot run {name}: {_why_not(error, cwd)}") from error
        finally:
            os.close(write_end)
        with process:
            try:
                yield _Command(name, process, report)
            finally:
                _end(process)


def _spawn(
    argv: Sequence[Argument], report: int, environment: Mapping[str, str] | None, cwd: Argument
) -> subprocess.Popen[bytes]:
    supervisor = (sys.executable, "-I", "-S", SUPERVISOR, str(report), str(os.getpid()))
    return subprocess.Popen(
        [*supervisor, *argv],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        cwd=cwd,
        env=harmless_environment() if environment is None else environment,
        pass_fds=(report,),
        start_new_session=True,
    )


def _why_not(error: OSError | ValueError, cwd: Argument) -> str:
    """Return why a supervisor could not be started, and the fix."""
    if not isinstance(error, OSError):
        return f"{error}; correct its arguments"
    if error.filename is not None and os.fspath(error.filename) == os.fspath(cwd):
        return f"cannot enter the folder {os.fspath(cwd)} ({error.strerror}); correct cwd"
    return f"{error.strerror}; free that resource on the host"


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the supervisor, which kills the command and everything that it started."""
    process.terminate()
    try:
        process.wait(ENDING_SECONDS)
    except subprocess.TimeoutExpired:  # it is stopped, or the kernel holds it
        process.kill()


class _Command:
    """A running command under its supervisor."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], report: IO[bytes]) -> None:
        assert process.stdout is not None  # both are pipes
        assert process.stderr is not None
        self.name = name
        self._process = process
        self._report = _Stream(report)
        self._streams = (_Stream(process.stdout), _Stream(process.stderr))

    def output(self, timeout: float, stop: IO[bytes] | None = None) -> CommandOutput:
        """Return the output once the supervisor has ended.

        Raises:
            CommandFailed: The command cannot be started, took longer than *timeout* seconds, or *stop* is
                closed at its other end.
        """
        if not 0 < timeout < math.inf:
            raise ValueError(f"cannot run {self.name} for {timeout} s; give it a finite timeout above 0")
        self._read_until_ended(time.monotonic() + timeout, timeout, stop)
        for stream in self._streams:
            stream.read()
        kind, _, number = self._report.text.partition(" ")
        if kind == "failed":
            why = FIXES.get(int(number)) or f"{os.strerror(int(number))}; correct that"
            raise CommandFailed(f"cannot run {self.name}: {why}")
        if kind != "ended":
            raise CommandFailed(f"cannot run {self.name}: another program killed its supervisor; try again")
        out, err = self._streams
        return CommandOutput(int(number), out.text, err.text, out.is_cut or err.is_cut)

    def _read_until_ended(self, deadline: float, timeout: float, stop: IO[bytes] | None) -> None:
        with selectors.DefaultSelector() as selector:
            for stream in (self._report, *self._streams):
                selector.register(stream.file, selectors.EVENT_READ, stream)
            if stop is not None:
                selector.register(stop, selectors.EVENT_READ)
            while self._report.file in selector.get_map():
                ready = selector.select(max(0.0, deadline - time.monotonic()))
                if not ready:
                    fix = "give it more time, or find out what it waits for"
                    raise CommandFailed(f"cannot run {self.name}: no end within {timeout:g} s; {fix}")
                for key, _ in ready:
                    if key.data is None:
                        raise CommandFailed(f"cannot run {self.name}: its check was cancelled; try again")
                    if not key.data.read():
                        selector.unregister(key.fileobj)
