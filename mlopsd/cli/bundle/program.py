"""Runs of other programs for the bundle, bounded in time and size."""

import contextlib
import os
import queue
import shutil
import signal
import subprocess
import threading
from collections.abc import Sequence
from typing import IO

PATIENCE = 20.0  # seconds for one program; nvidia-smi -q takes about 1 s a GPU
MOST_BYTES = 4_000_000  # of one program's output


class Unavailable(Exception):
    """Something that the bundle lacks; the message is the reason."""


def run_program(*command: str, patience: float | None = None) -> bytes:
    """Return the output of *command*, at most `MOST_BYTES`.

    A program that waits for a driver may be in a state in which no signal ends it. Nothing here waits for it
    after *patience* seconds, by default `PATIENCE`.

    Raises:
        Unavailable: It is not installed, failed without output, or did not end.
    """
    name = command[0]
    if shutil.which(name) is None:
        raise Unavailable(f"{name} is not installed")
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "LC_ALL": "C"},
        )
    except OSError as error:
        raise Unavailable(f"{name} cannot be started: {error.strerror}") from error
    limit = PATIENCE if patience is None else patience
    output = _read(process, limit)
    status = _end(process)
    if output is None:
        raise Unavailable(f"{name} did not end within {limit:g} s")
    if not output.strip():
        raise Unavailable(f"{name} printed nothing (exit status {status})")
    return output


def _read(process: subprocess.Popen[bytes], limit: float) -> bytes | None:
    """Return the output; None if it does not end in time."""
    assert process.stdout is not None
    found: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    stream: IO[bytes] = process.stdout

    def read() -> None:
        with stream:
            found.put(stream.read(MOST_BYTES))

    threading.Thread(target=read, name=f"read from {process.pid}", daemon=True).start()
    try:
        return found.get(timeout=limit)
    except queue.Empty:
        return None


def _end(process: subprocess.Popen[bytes]) -> int | None:
    """Return the exit status; end the process and what it started if it still runs."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        return process.wait(0.5)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        return process.wait(0.5)
    return None


def lines_with(words: Sequence[str], text: bytes) -> bytes:
    """Return the lines of *text* that have one of *words*, ignoring case."""
    wanted = [word.lower().encode() for word in words]
    kept = [line for line in text.splitlines(keepends=True) if any(word in line.lower() for word in wanted)]
    return b"".join(kept)
