"""The setup of a model's process, before any code of the model runs.

`mlopsd.process.setup` does the same for processes that run in the daemon's interpreter.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import socket
import struct
import sys
from collections.abc import Iterable
from pathlib import Path

from . import landlock, network

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
CAPABILITY_VERSION = 0x20080522  # capset(2), version 3: two blocks of three words
CAPABILITY_BYTES = 2 * 3 * 4
FIRST_IN_LINE = "1000"  # oom_score_adj: the kernel kills this process first when memory runs out


def enter_sandbox(
    parent: int,
    hidden: Iterable[str],
    credentials: Iterable[str],
    readable: Iterable[str],
    writable: Iterable[str],
) -> dict[str, str]:
    """Drop the privileges that a model does not need; return the results of network and file isolation.

    The system may not permit these two. Call it before threads exist: a namespace and Landlock apply only to
    later threads.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the daemon handles a Ctrl-C on the terminal
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _first_in_line()
    cut = network.cut()
    libc = ctypes.CDLL(None, use_errno=True)
    _drop_capabilities(libc)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # orphans of the model stay below this process
    libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before PR_SET_PDEATHSIG took effect
        sys.exit(0)
    return {"network": cut, "state": landlock.hide(hidden, credentials, readable, writable)}


def isolate_forks(channel: socket.socket, pipe: int) -> None:
    """Close the channel and the pipe in forks of the model, and let the daemon read their environment."""
    libc = ctypes.CDLL(None, use_errno=True)

    def in_child() -> None:
        channel.close()
        os.close(pipe)
        libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)  # else its environment, with the daemon's mark, is hidden

    os.register_at_fork(after_in_child=in_child)


def _drop_capabilities(libc: ctypes.CDLL) -> None:
    """Drop root's capabilities, and those over a user namespace; no model needs them.

    With `PR_SET_NO_NEW_PRIVS` no child program gets them back.
    """
    header = struct.pack("Ii", CAPABILITY_VERSION, 0)
    libc.capset(header, bytes(CAPABILITY_BYTES))  # a unit that forbids the call leaves no capability to drop


def _first_in_line() -> None:
    try:
        Path("/proc/self/oom_score_adj").write_text(FIRST_IN_LINE, "ascii")
    except OSError:  # a sandbox may forbid it; the kill order is optional
        return
