"""The configured paths, each queried in its own thread because of dead mounts, and disk I/O."""

import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from mlopsd.format import format_duration
from mlopsd.probe import Advice, Finding, Metric, Reading, Status
from mlopsd_probes.background_call import BackgroundCall, wait_for
from mlopsd_probes.collector import join
from mlopsd_probes.system.collector import HostCollector
from mlopsd_probes.system.filesystem import Filesystem, statvfs
from mlopsd_probes.system.options import SystemOptions

UP = Metric("disk_path_up", "1 if the path answered, 0 if it is absent, dead or silent.", labels=("path",))

READ = Metric(
    "disk_read_bytes_total", "Bytes read from the disk.", kind="counter", unit="bytes", labels=("device",)
)
WRITTEN = Metric(
    "disk_written_bytes_total", "Bytes written to the disk.", kind="counter", unit="bytes", labels=("device",)
)
BUSY = Metric(
    "disk_busy_seconds_total",
    "Time in which the disk had a request in flight.",
    kind="counter",
    unit="seconds",
    labels=("device",),
)
MILLISECONDS = 1000


PathCall = BackgroundCall[os.statvfs_result]


class Disks(HostCollector):
    """``statvfs(3)`` of all paths at the same time, with at most one call per path.

    A path whose call hangs is not called again until that call returns. Only the configured paths are
    touched, never the list of mounts.
    """

    name = "disk_path"
    source = "paths"  # each finding names its own path
    may_be_absent = True  # an operator may configure no paths
    findings = ("disk_path", *Filesystem.findings)
    metrics = (UP, *Filesystem.metrics)

    def __init__(
        self,
        options: SystemOptions,
        statvfs: Callable[[str], os.statvfs_result] = statvfs,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.timeout = options.path_timeout
        self.statvfs = statvfs
        self._clock = clock
        self.filesystems = {path: Filesystem(path, options) for path in options.paths}
        self.stuck: dict[str, PathCall] = {}

    def collect(self) -> Reading:
        """Return the readings of all paths."""
        pending = _unanswered(self.stuck)
        calls = {path: pending.get(path) or self.start_call(path) for path in self.filesystems}
        wait_for((call for path, call in calls.items() if path not in pending), self.timeout)
        self.stuck = _unanswered(calls)
        return join(self._read(path, call) for path, call in calls.items())

    def start_call(self, path: str) -> PathCall:
        """Start a call for *path*."""
        return BackgroundCall(partial(self.statvfs, path), f"statvfs {path}", self._clock)

    def _read(self, path: str, call: PathCall) -> Reading:
        """Return the findings and samples of one path."""
        if path in self.stuck:
            return self._silent(path, call.age)
        filesystem = self.filesystems[path]
        try:
            answer = filesystem.reading(call.answer.result())
        except (OSError, ValueError) as error:
            failure = _error_reading(path, error)
            if failure.status is not Status.UNHEALTHY:
                return failure
            return Reading([*failure.findings, *filesystem.remembered()], failure.samples)
        answers = Finding("disk_path", Status.HEALTHY, f"{path} answers", path)
        return Reading([answers, *answer.findings], [UP.sample(1, path=path), *answer.samples])

    def _silent(self, path: str, age: float) -> Reading:
        """Return the reading of a path whose call has not returned."""
        lasts = age > 2 * self.timeout
        text = f"{path} did not answer within {format_duration(self.timeout)}"
        text += f" ({format_duration(age)} so far)" if lasts else ""
        text += f"; the mount is dead: umount -l {path}, and mount it again" if lasts else ""
        finding = Finding(
            "disk_path",
            Status.UNHEALTHY,
            text if lasts else f"{text}; the mount may be dead",
            path,
            age,
            "seconds",
            self.timeout,
            Advice.FIX_CONFIG if lasts else Advice.WATCH,
        )
        return Reading([finding, *self.filesystems[path].remembered()], [UP.sample(0, path=path)])


def _unanswered(calls: dict[str, PathCall]) -> dict[str, PathCall]:
    """Return the *calls* that have not returned."""
    return {path: call for path, call in calls.items() if not call.answer.done()}


def _error_reading(path: str, error: OSError | ValueError) -> Reading:
    """Return the reading of a path that answered with an error."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        summary = f"{path} does not exist; mount or create it, or take it out of paths"
        finding = Finding("disk_path", Status.DEGRADED, summary, path, advice=Advice.FIX_CONFIG)
        return Reading([finding], [UP.sample(0, path=path)])
    if isinstance(
        error, PermissionError | BlockingIOError | ValueError
    ):  # proves nothing about the path itself
        is_short = isinstance(error, BlockingIOError)  # of threads
        advice = Advice.FREE_RESOURCES if is_short else Advice.FIX_CONFIG
        summary = f"cannot look at {path}: {_reason(error)}"
        return Reading([Finding("disk_path", Status.UNKNOWN, summary, path, advice=advice)])
    fix = "the mount or its disk is dead: mount it again, or check the disk"
    summary = f"{path} answers with an error: {_reason(error)}; {fix}"
    finding = Finding("disk_path", Status.UNHEALTHY, summary, path, advice=Advice.FIX_CONFIG)
    return Reading([finding], [UP.sample(0, path=path)])


def _reason(error: OSError | ValueError) -> str:
    """Return the text of the error without the path, which the sentence already contains."""
    return getattr(error, "strerror", None) or str(error)


class DiskIO(HostCollector):
    """Counters of hardware disks, without partitions, loop devices and mappings."""

    name = "disk_io"
    source = "/proc/diskstats"
    may_be_absent = True
    metrics = (READ, WRITTEN, BUSY)

    def __init__(
        self,
        _options: SystemOptions,
        read: Callable[..., Mapping[str, Any]] = psutil.disk_io_counters,
        sys: Path = Path("/sys"),
    ) -> None:
        self._read = read
        self._blocks = sys / "block"

    def collect(self) -> Reading:
        """Return three samples per disk."""
        samples = []
        for device, counters in self._read(perdisk=True).items():
            if (self._blocks / device / "device").exists():
                samples.append(READ.sample(counters.read_bytes, device=device))
                samples.append(WRITTEN.sample(counters.write_bytes, device=device))
                samples.append(BUSY.sample(counters.busy_time / MILLISECONDS, device=device))
        return Reading(samples=samples)
