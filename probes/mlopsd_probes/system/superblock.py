"""``statvfs(3)`` of a path as the host sees it, from inside a sandbox that mounts everything read-only."""

import os
from pathlib import Path

F_FLAG = 8  # its place in os.statvfs_result
SUPER_OPTIONS = 2  # behind the dash of a line in /proc/PID/mountinfo, proc_pid_mountinfo(5)


def statvfs(path: str, proc: Path = Path("/proc/self")) -> os.statvfs_result:
    """Return the numbers of *path*; ``ST_RDONLY`` only if the file system itself is read-only.

    systemd's ``ProtectSystem=strict`` makes each mount of the service read-only, and the flag of
    ``statvfs`` is the mount's. The file system's own is among the super options of the mount.

    Raises:
        OSError: the path cannot be read.
        ValueError: what procfs tells of its mount cannot, which says nothing of the path itself.
    """
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        numbers = os.fstatvfs(descriptor)
        if numbers.f_flag & os.ST_RDONLY and not is_read_only(descriptor, proc):
            return _writable(numbers)
        return numbers
    finally:
        os.close(descriptor)


def is_read_only(descriptor: int, proc: Path) -> bool:
    """Return true if the file system of *descriptor* is read-only, or the kernel does not say."""
    mount = _mount_id(_read(proc / "fdinfo" / str(descriptor)))
    for line in _read(proc / "mountinfo").splitlines():
        if line.split(" ", 1)[0] == mount:
            options = line.rpartition(" - ")[2].split()[SUPER_OPTIONS:]
            return not options or "ro" in options[0].split(",")
    return True


def _read(file: Path) -> str:
    """Read a file of procfs.

    Raises:
        ValueError: it cannot be read.
    """
    try:
        return file.read_text("utf-8", "surrogateescape")
    except OSError as error:
        raise ValueError(f"cannot read {file}: {error.strerror}") from error


def _mount_id(fdinfo: str) -> str | None:
    """Return the mount's ID in *fdinfo*."""
    fields = dict(line.split(":", 1) for line in fdinfo.splitlines() if ":" in line)
    return fields["mnt_id"].strip() if "mnt_id" in fields else None


def _writable(numbers: os.statvfs_result) -> os.statvfs_result:
    """Return *numbers* without ``ST_RDONLY``."""
    values = list(numbers)
    values[F_FLAG] &= ~os.ST_RDONLY
    return os.statvfs_result([*values, numbers.f_fsid])
