"""The space, inodes and writability of a file system, also read from a sandbox."""

import os
from pathlib import Path

from mlopsd.format import format_ratio, format_size
from mlopsd.probe import Advice, Finding, Metric, Reading, Sample, Status
from mlopsd_probes.limits import Limits
from mlopsd_probes.system.options import SystemOptions

TOTAL = Metric("disk_total_bytes", "Size of the path's file system.", unit="bytes", labels=("path",))
FREE = Metric("disk_free_bytes", "Space free for users, not root.", unit="bytes", labels=("path",))
INODES = Metric("disk_inodes", "Inodes of the path's file system.", labels=("path",))
INODES_FREE = Metric("disk_inodes_free", "Inodes free for users, not root.", labels=("path",))
READ_ONLY = Metric("disk_read_only", "1 if the path's file system is read-only.", labels=("path",))
F_FLAG = 8  # index in os.statvfs_result
SUPER_OPTIONS = 2  # index after the dash in a line of /proc/PID/mountinfo, proc_pid_mountinfo(5)


class Filesystem:
    """The result of `os.statvfs` for one path.

    The space of a read-only file system is not judged, since an image is always full. A file system that was
    writable at the first check and no longer is has had an error (ext4's ``errors=remount-ro``).
    """

    findings = ("disk_space", "disk_inodes", "disk_writable")
    metrics = (TOTAL, FREE, INODES, INODES_FREE, READ_ONLY)

    def __init__(self, path: str, options: SystemOptions) -> None:
        self._path = path
        self._space = Limits(options.disk_free_degraded, options.disk_free_unhealthy, floor=True)
        self._inodes = Limits(options.inodes_free_degraded, options.inodes_free_unhealthy, floor=True)
        self._enough = options.disk_free_enough
        self._was_writable = False
        self._went_read_only = False

    def reading(self, numbers: os.statvfs_result) -> Reading:
        """Return findings and samples; btrfs has no inodes, and a bucket may have no blocks."""
        read_only = bool(numbers.f_flag & os.ST_RDONLY)
        self._was_writable |= not read_only
        self._went_read_only = self._was_writable and read_only
        findings = [self._judge_writable(read_only=read_only)] if self._was_writable else []
        if numbers.f_blocks and not read_only:
            findings.append(self._judge_space(numbers))
        if numbers.f_files and not read_only:
            findings.append(self._judge_inodes(numbers))
        return Reading(findings, self._samples(numbers))

    def remembered(self) -> list[Finding]:
        """Return the findings that stay while the path does not answer."""
        return [self._judge_writable(read_only=True)] if self._went_read_only else []

    def _judge_writable(self, *, read_only: bool) -> Finding:
        """Compare the read-only flag with the one at the first check."""
        if read_only:
            summary = f"{self._path} was writable and is now read-only; the kernel's log says why"
            return Finding(
                "disk_writable", Status.UNHEALTHY, summary, self._path, advice=Advice.REBOOT, lasting=True
            )
        return Finding("disk_writable", Status.HEALTHY, f"{self._path} is writable", self._path)

    def _judge_space(self, numbers: os.statvfs_result) -> Finding:
        """Judge free space as a share of the total, unless the absolute amount is enough."""
        free, total = numbers.f_bavail * numbers.f_frsize, numbers.f_blocks * numbers.f_frsize
        limits = self._space if free < self._enough else Limits()
        share = format_ratio(free / total)
        return limits.finding(
            "disk_space",
            f"{self._path} has {format_size(free)} free of {format_size(total)} ({share})",
            free / total,
            unit="ratio",
            text=format_ratio,
            advice=Advice.FREE_RESOURCES,
            subject=self._path,
        )

    def _judge_inodes(self, numbers: os.statvfs_result) -> Finding:
        """Judge free inodes as a share of all."""
        free = numbers.f_favail / numbers.f_files
        return self._inodes.finding(
            "disk_inodes",
            f"{self._path} has {numbers.f_favail} free inodes of {numbers.f_files} ({format_ratio(free)})",
            free,
            unit="ratio",
            text=format_ratio,
            advice=Advice.FREE_RESOURCES,
            subject=self._path,
        )

    def _samples(self, numbers: os.statvfs_result) -> list[Sample]:
        """Return every number that this file system counts."""
        samples = [READ_ONLY.sample(bool(numbers.f_flag & os.ST_RDONLY), path=self._path)]
        if numbers.f_blocks:
            samples.append(TOTAL.sample(numbers.f_blocks * numbers.f_frsize, path=self._path))
            samples.append(FREE.sample(numbers.f_bavail * numbers.f_frsize, path=self._path))
        if numbers.f_files:
            samples.append(INODES.sample(numbers.f_files, path=self._path))
            samples.append(INODES_FREE.sample(numbers.f_favail, path=self._path))
        return samples


def statvfs(path: str, proc: Path = Path("/proc/self")) -> os.statvfs_result:
    """Return the numbers of *path*, with ``ST_RDONLY`` only if the file system itself is read-only.

    The flag of ``statvfs`` is that of the mount, and systemd's ``ProtectSystem=strict`` makes each mount of
    the service read-only. The flag of the file system is among the mount's super options.

    Raises:
        OSError: the path cannot be read.
        ValueError: procfs cannot be read, which proves nothing about the path.
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
    """Return true if the file system of *descriptor* is read-only, or if this is unknown."""
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
