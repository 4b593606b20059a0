"""A real mount whose server never answers; test_dead_mount.py runs this in a process of its own.

It mounts FUSE on the folder that is its argument, in a mount namespace of its own (which goes when the
process goes), and never serves it: a process that asks sleeps uninterruptibly. Prints the result as JSON.
"""

import ctypes
import json
import os
import signal
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mlopsd.probe import Reading
from mlopsd_probes.system.disks import Disks
from mlopsd_probes.system.options import SystemOptions
from mlopsd_probes.system.processes import Stall, StuckProcesses, stalls

CLONE_NEWNS = 0x00020000
MS_REC, MS_PRIVATE = 1 << 14, 1 << 18
MNT_DETACH = 2
PR_SET_NAME = 15
BUFFER = 1 << 20
REQUEST = struct.Struct("<IIQ")  # fuse_in_header: length, operation, unique id; then node, uid, gid, pid
REQUEST_PID, REQUEST_PID_AT = struct.Struct("<I"), 32
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


def take_requests(server: int, child: int) -> None:
    """Answer the start of the connection, then take requests until one is *child*'s; answer none.

    A process whose request was taken waits for the answer even if it is killed.
    """
    _, _, unique = REQUEST.unpack_from(os.read(server, BUFFER))
    started = struct.pack("<IIIIHHIIHHI28x", 7, 31, 0, 0, 1, 1, 4096, 1, 0, 0, 0)
    os.write(server, struct.pack("<IiQ", 16 + len(started), 0, unique) + started)
    while REQUEST_PID.unpack_from(os.read(server, BUFFER), REQUEST_PID_AT)[0] != child:
        pass


def reported(reading: Reading) -> list[list[str | None]]:
    return [
        [finding.name, finding.subject, str(finding.status), finding.summary] for finding in reading.findings
    ]


def wait_until(child: int, holds: Callable[[Stall], bool]) -> None:
    """Until the kernel shows a stall of *child* of which *holds* is true."""
    while not any(stall.pid == child and holds(stall) for stall in stalls(Path("/proc"))):
        os.sched_yield()


def main(folder: str) -> None:
    own_namespace()
    server = mount(folder)
    clock = iter([0.0, 61.0, 100.0, 161.0, 176.0])
    processes = StuckProcesses(SystemOptions(), clock=lambda: next(clock))
    disks = Disks(SystemOptions(paths=(folder, "/"), path_timeout=2))
    with sleeper(folder, server) as child:
        wait_until(child, lambda stall: stall.is_sleep)
        found = {"silent": disks.collect(), "asleep": processes.collect(), "stuck": processes.collect()}
        take_requests(server, child)
        os.kill(child, signal.SIGKILL)
        wait_until(child, lambda stall: stall.is_killed)
        found |= {"just killed": processes.collect(), "killed": processes.collect()}
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
