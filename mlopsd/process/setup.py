"""The prologue of a child process, before any code of others runs in it.

``mlopsd_host.sandbox.enter`` does the same in a model's interpreter, where nothing of ours is installed.
"""

import contextlib
import ctypes
import os
import resource
import signal
import socket
import sys
from pathlib import Path

from mlopsd.process.reaper import adopt_orphans

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4


def set_up(parent: int, *, has_secrets: bool = False) -> None:
    """Tie this process to the daemon *parent*: die with it and before it, dump no core, adopt orphans.

    With *has_secrets* no other process of the same user can read its memory and environment.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before the line above
        sys.exit(0)
    adopt_orphans()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C on a terminal is the daemon's to handle
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):  # a sandbox may forbid it; the order of dying is a courtesy
        Path("/proc/self/oom_score_adj").write_text("500", "ascii")
    if has_secrets:
        libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def open_channel(*, has_secrets: bool = False) -> socket.socket:
    """Set up the process that ``{channel}`` and ``{parent}`` were given to; return its end of the channel."""
    descriptor, parent = map(int, sys.argv[1:3])
    set_up(parent, has_secrets=has_secrets)
    return socket.socket(fileno=descriptor)
