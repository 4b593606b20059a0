"""Cut this process and its children off from the network, except for their own loopback."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import socket
import struct
from pathlib import Path

CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
SIOCGIFFLAGS = 0x8913
SIOCSIFFLAGS = 0x8914
IFF_UP = 0x1
FLAGS = struct.Struct("16sh14x")  # ``struct ifreq`` with ``ifr_flags``


def cut() -> str:
    """Cut the network; return ``cut``, or ``open: `` and the reason. Call it before threads exist."""
    uid, gid = os.getuid(), os.getgid()
    error = _unshare(CLONE_NEWNET)
    if error == errno.EPERM:  # not root; a user namespace gives the right
        error = _unshare(CLONE_NEWUSER | CLONE_NEWNET)
        if not error:
            _stay_who_we_are(uid, gid)
    if error:
        return f"open: this system does not let it be cut ({os.strerror(error)})"
    with contextlib.suppress(OSError):  # optional: for models that talk to their own processes
        _raise_loopback()
    return "cut"


def _unshare(flags: int) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    return ctypes.get_errno() if libc.unshare(flags) else 0


def _stay_who_we_are(uid: int, gid: int) -> None:
    """Map the user to itself in the new namespace; libraries would find no home for the user nobody."""
    with contextlib.suppress(OSError):
        Path("/proc/self/setgroups").write_text("deny", "ascii")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1", "ascii")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1", "ascii")


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        answer = fcntl.ioctl(probe, SIOCGIFFLAGS, FLAGS.pack(b"lo", 0))
        _, flags = FLAGS.unpack(answer)
        fcntl.ioctl(probe, SIOCSIFFLAGS, FLAGS.pack(b"lo", flags | IFF_UP))
