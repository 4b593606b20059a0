"""The supervisor of one command: ``python supervisor.py REPORT PARENT COMMAND…``.

`mlopsd.commands` runs this file alone, without ``site`` and the rest of mlopsd, since it starts with every
command. It adopts the orphans of the command, so nothing that the command starts can outlive it. It gets
SIGTERM when the caller gives up and when the caller's thread or process dies.

It writes one line to the file descriptor REPORT: ``ended STATUS``, or ``failed ERRNO``.
"""

import contextlib
import ctypes
import os
import signal
import sys
import time
from typing import NoReturn

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
KILLING_SECONDS = 1.0  # a process that is left then hangs in the kernel, or belongs to another user
DEFAULTS = (signal.SIGPIPE, signal.SIGXFSZ)  # Python ignores them, and a command must not inherit that


class Stopped(BaseException):
    """The order to stop: SIGTERM."""


def main() -> None:
    """Run the command to its end, kill what it left behind, and report."""
    report, parent = int(sys.argv[1]), int(sys.argv[2])
    os.set_inheritable(report, False)  # noqa: FBT003  # the signature of os
    signal.signal(signal.SIGTERM, _stop)
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    if os.getppid() != parent:  # it died before the lines above
        return
    try:
        line = f"ended {_run(sys.argv[3:])}"
    except OSError as error:
        line = f"failed {error.errno}"
    except Stopped:
        line = ""
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _kill_children()
    os.write(report, line.encode())


def _stop(_number: int, _frame: object) -> NoReturn:
    raise Stopped


def _run(command: list[str]) -> int:
    """Return the exit status of *command*, or minus the number of the signal that killed it."""
    child = os.posix_spawnp(command[0], command, _environment(), setsid=True, setsigdef=DEFAULTS)
    while True:  # adopted orphans end here too
        ended, status = os.wait()
        if ended == child:
            return os.waitstatus_to_exitcode(status)


def _environment() -> dict[bytes, bytes]:
    """Return the environment as the caller gave it: Python has added ``LC_CTYPE`` to its own copy."""
    with open("/proc/self/environ", "rb") as file:  # noqa: PTH123  # pathlib takes long to import  # pathlib would double the start
        pairs = file.read().split(b"\0")
    return {name: value for name, found, value in (pair.partition(b"=") for pair in pairs) if found}


def _kill_children() -> None:
    """Kill the children until none is left. The end of one makes its own children ours."""
    deadline = time.monotonic() + KILLING_SECONDS
    while time.monotonic() < deadline:
        for child in _children():
            with contextlib.suppress(OSError):
                os.kill(child, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass
        except ChildProcessError:
            return
        time.sleep(0.002)


def _children() -> list[int]:
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", "rb") as file:  # noqa: PTH123  # pathlib takes long to import
            return [int(pid) for pid in file.read().split()]
    except OSError:  # a kernel without CONFIG_PROC_CHILDREN
        return []


if __name__ == "__main__":
    main()
