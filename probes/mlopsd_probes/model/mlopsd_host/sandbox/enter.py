"""The prologue of a model's process, before any code of the model's runs in it.

`mlopsd.process.setup` does the same for the processes that run in the daemon's own interpreter.
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
FIRST_IN_LINE = "1000"  # of those that the kernel ends when memory runs out


def enter_sandbox(
    parent: int,
    hidden: Iterable[str],
    credentials: Iterable[str],
    readable: Iterable[str],
    writable: Iterable[str],
) -> dict[str, str]:
    """Give up all that a model needs not; return the result of the two that the system may refuse.

    Must be called before there are threads: a namespace and Landlock hold for those that come after.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C on a terminal is the daemon's to handle
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _first_in_line()
    cut = network.cut()
    libc = ctypes.CDLL(None, use_errno=True)
    _drop_capabilities(libc)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # what the model starts is found below us
    libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before the line above
        sys.exit(0)
    return {"network": cut, "state": landlock.hide(hidden, credentials, readable, writable)}


def isolate_forks(channel: socket.socket, pipe: int) -> None:
    """A process that the model forks must not speak for us, and must show the daemon whose it is."""
    libc = ctypes.CDLL(None, use_errno=True)

    def in_child() -> None:
        channel.close()
        os.close(pipe)
        libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)  # else its environment, with the daemon's mark, is hidden

    os.register_at_fork(after_in_child=in_child)


def _drop_capabilities(libc: ctypes.CDLL) -> None:
    """Root's, where the daemon is root, and those over a user namespace: no model has a use for them.

    With `PR_SET_NO_NEW_PRIVS` no program that is started gets them back.
    """
    header = struct.pack("Ii", CAPABILITY_VERSION, 0)
    libc.capset(header, bytes(CAPABILITY_BYTES))  # a unit may forbid it, and leaves none to give up


def _first_in_line() -> None:
    try:
        Path("/proc/self/oom_score_adj").write_text(FIRST_IN_LINE, "ascii")
    except OSError:  # a sandbox may forbid it; the order of dying is a courtesy
        return
