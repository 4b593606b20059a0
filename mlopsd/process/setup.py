"""The setup of a child process, before any third-party code runs in it.

``mlopsd_host.sandbox.enter`` does the same in a model's interpreter, where mlopsd is not installed.
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
    """Tie this process to the daemon *parent*, disable core dumps, and adopt orphans.

    It dies with the daemon, and before it when memory runs out. With *has_secrets*, no other process of the
    same user can read its memory and environment.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # the daemon died before the line above
        sys.exit(0)
    adopt_orphans()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the daemon handles Ctrl-C on a terminal
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):  # a sandbox may forbid it; it only affects the OOM killer's choice
        Path("/proc/self/oom_score_adj").write_text("500", "ascii")
    if has_secrets:
        libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def open_channel(*, has_secrets: bool = False) -> socket.socket:
    """Set up this process from its arguments ``{channel}`` and ``{parent}``, and return its channel."""
    descriptor, parent = map(int, sys.argv[1:3])
    set_up(parent, has_secrets=has_secrets)
    return socket.socket(fileno=descriptor)
