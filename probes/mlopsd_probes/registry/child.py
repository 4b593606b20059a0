"""The process of one registry: ``python -m mlopsd_probes.registry.child FD PARENT``, with MLflow's client.

It has the credentials of that registry and no other, answers one question at a time, and never runs
code of a model. The daemon holds the clocks and kills it where it is too slow.
"""

import ctypes
import os
import resource
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlopsd_probes.model.mlopsd_host.wire import receive, send
from mlopsd_probes.registry.modules import sentence

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4


def main() -> None:
    """Answer until the daemon hangs up."""
    descriptor, parent = int(sys.argv[1]), int(sys.argv[2])
    _settle_in(parent)
    with socket.socket(fileno=descriptor) as channel:
        if (opening := receive(channel)) is None:
            return
        os.environ.update(opening[0]["environment"])
        _answer(channel, opening[0])


def _settle_in(parent: int) -> None:
    """Die with the daemon, before it in want of memory; keep the credentials from others of this user."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before the line above
        sys.exit(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C on a terminal is the daemon's to handle
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _be_first_to_go()
    libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)  # a model's process may be of the same user


def _be_first_to_go() -> None:
    try:
        Path("/proc/self/oom_score_adj").write_text("500", "ascii")
    except OSError:  # a sandbox may forbid it; the order of dying is a courtesy
        return


def _answer(channel: socket.socket, opening: Mapping[str, Any]) -> None:
    try:
        from mlopsd_probes.registry.resolver import Resolver  # noqa: PLC0415  # MLflow, which takes its time
    except ImportError as error:
        send(channel, {"fault": {"kind": "import_error", "reason": sentence(error)}})
        return
    desk = Resolver(opening, lambda header: send(channel, header))
    send(channel, {"ready": True})
    while (question := receive(channel)) is not None:
        header, _ = question
        send(channel, {"number": header["number"], **desk.answer(header)})


if __name__ == "__main__":
    main()
