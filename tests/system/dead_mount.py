"""A real mount whose server never answers; test_dead_mount.py runs this in a process of its own.

It mounts FUSE on the folder that is its argument, in a mount namespace of its own (which goes when the
process goes), and never serves it: a process that asks sleeps uninterruptibly. Prints the result as JSON.
"""

import ctypes
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlopsd.probe import Reading
from mlopsd_probes.system.disks import Disks
from mlopsd_probes.system.options import SystemOptions
from mlopsd_probes.system.processes import StuckProcesses, uninterruptible

CLONE_NEWNS = 0x00020000
MS_REC, MS_PRIVATE = 1 << 14, 1 << 18
MNT_DETACH = 2
PR_SET_NAME = 15
LIBC = ctypes.CDLL(None, use_errno=True)


def checked(result: int) -> None:
    """Raise what the C library left in errno."""
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def own_namespace() -> None:
    """A mount namespace in which nothing reaches the host's."""
    checked(LIBC.unshare(CLONE_NEWNS))
    checked(LIBC.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None))


def mount(folder: str) -> int:
    """Mount FUSE there; closing the descriptor ends the connection and wakes sleeping processes."""
    server = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={server},rootmode=40000,user_id=0,group_id=0".encode()
    checked(LIBC.mount(b"dead", folder.encode(), b"fuse", 0, options))
    return server


@contextmanager
def sleeper(folder: str, server: int) -> Iterator[int]:
    """A child called nvidia-smi that sleeps in the dead mount."""
    child = os.fork()
    if not child:
        os.close(server)  # else the child would keep its own connection alive
        LIBC.prctl(PR_SET_NAME, b"nvidia-smi", 0, 0, 0)
        try:
            os.statvfs(folder)
        finally:
            os._exit(0)
    yield child
    os.waitpid(child, 0)


def reported(reading: Reading) -> list[list[str | None]]:
    return [
        [finding.name, finding.subject, str(finding.status), finding.summary] for finding in reading.findings
    ]


def wait_until_asleep(child: int) -> None:
    """Until the kernel says that *child* is in state D."""
    while child not in {sleep.pid for sleep in uninterruptible(Path("/proc"))}:
        os.sched_yield()


def main(folder: str) -> None:
    own_namespace()
    server = mount(folder)
    clock = iter([0.0, 61.0, 76.0])
    processes = StuckProcesses(SystemOptions(), clock=lambda: next(clock))
    disks = Disks(SystemOptions(paths=(folder, "/"), path_timeout=2))
    with sleeper(folder, server) as child:
        wait_until_asleep(child)
        found = {"silent": disks.collect(), "asleep": processes.collect(), "stuck": processes.collect()}
        (question,) = disks.stuck.values()
        os.close(server)
        question.answer.exception(10)
    disks.timeout = 10
    found |= {"dead": disks.collect(), "awake": processes.collect()}
    checked(LIBC.umount2(folder.encode(), MNT_DETACH))
    found["gone"] = disks.collect()
    print(json.dumps({when: reported(reading) for when, reading in found.items()} | {"child": child}))


if __name__ == "__main__":
    main(sys.argv[1])
