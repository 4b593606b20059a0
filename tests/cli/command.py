"""The command line as a user runs it: a process, its output and its exit status."""

import fcntl
import os
import pty
import subprocess
import sys
import termios
from collections.abc import Mapping
from pathlib import Path

from tests.running import GIVE_UP

SECONDS = GIVE_UP
Done = subprocess.CompletedProcess[str]


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """This one without what would configure mlopsd, colour its output or give it another width."""
    foreign = ("MLOPSD_", "NO_COLOR", "COLUMNS", "LINES")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return {**kept, "TERM": "xterm", **(more or {})}


def mlopsd(*arguments: str | Path, env: Mapping[str, str] | None = None, seconds: float = SECONDS) -> Done:
    """``mlopsd`` with *arguments*, its output not a terminal."""
    command = [sys.executable, "-m", "mlopsd", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, env=environment(env), timeout=seconds, check=False
    )


def on_a_terminal(
    *arguments: str | Path,
    env: Mapping[str, str] | None = None,
    columns: int = 80,
    typed: bytes = b"",
    after: str = "",
) -> tuple[int, str]:
    """The exit status of ``mlopsd`` with *arguments*, and what it writes to a terminal.

    *typed* is the input there, once the text *after* is shown.
    """
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, columns))
    command = [sys.executable, "-m", "mlopsd", *map(str, arguments)]
    with subprocess.Popen(
        command,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment(env),
        start_new_session=True,
        preexec_fn=_own_the_terminal,  # noqa: PLW1509  # it makes one system call
    ) as process:
        os.close(theirs)
        shown = b""
        while after.encode() not in shown:
            shown += os.read(ours, 65536)
        os.write(ours, typed)
        text = shown.decode() + _read_all(ours)
        return process.wait(SECONDS), text


def _own_the_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # so that Ctrl-C there reaches this process


def _read_all(descriptor: int) -> str:
    parts = []
    with os.fdopen(descriptor, "rb", buffering=0) as stream:
        while True:
            try:
                part = stream.read(65536)
            except OSError:  # EIO: the other side has closed the terminal
                break
            if not part:
                break
            parts.append(part)
    return b"".join(parts).decode()
