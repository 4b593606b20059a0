"""The configured paths, each queried on its own, so that a dead mount affects no other."""

import os
import time
from collections.abc import Callable
from functools import partial

from mlopsd.format import format_duration
from mlopsd.probe import Advice, Finding, Metric, Reading, Status
from mlopsd_probes.collector import join
from mlopsd_probes.system import superblock
from mlopsd_probes.system.background_call import BackgroundCall, wait_for
from mlopsd_probes.system.collector import HostCollector
from mlopsd_probes.system.filesystem import Filesystem
from mlopsd_probes.system.options import SystemOptions

UP = Metric("disk_path_up", "1 if the path answered, 0 if it is absent, dead or silent.", labels=("path",))

PathCall = BackgroundCall[os.statvfs_result]


class Disks(HostCollector):
    """``statvfs(3)`` of each path, all at once, and at most one call of a path at a time.

    A path whose call does not return in time is not calls again until it has returned. Only the
    configured paths are touched, never the list of mounts.
    """

    name = "disk_path"
    source = "paths"  # each finding names its own
    may_be_absent = True  # no paths is a choice
    findings = ("disk_path", *Filesystem.findings)
    metrics = (UP, *Filesystem.metrics)

    def __init__(
        self,
        options: SystemOptions,
        statvfs: Callable[[str], os.statvfs_result] = superblock.statvfs,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.timeout = options.path_timeout
        self.statvfs = statvfs
        self._clock = clock
        self.filesystems = {path: Filesystem(path, options) for path in options.paths}
        self.stuck: dict[str, PathCall] = {}

    def collect(self) -> Reading:
        """Return the reading of each path, answered or not."""
        pending = _unanswered(self.stuck)
        calls = {path: pending.get(path) or self.start_call(path) for path in self.filesystems}
        wait_for((call for path, call in calls.items() if path not in pending), self.timeout)
        self.stuck = _unanswered(calls)
        return join(self._read(path, call) for path, call in calls.items())

    def start_call(self, path: str) -> PathCall:
        """Start a new call."""
        return BackgroundCall(partial(self.statvfs, path), f"statvfs {path}", self._clock)

    def _read(self, path: str, call: PathCall) -> Reading:
        """Return the findings and samples of one path."""
        if path in self.stuck:
            return self._silent(path, call.age)
        filesystem = self.filesystems[path]
        try:
            answer = filesystem.reading(call.answer.result())
        except (OSError, ValueError) as error:
            refusal = _refusal(path, error)
            if refusal.status is not Status.UNHEALTHY:
                return refusal
            return Reading([*refusal.findings, *filesystem.remembered()], refusal.samples)
        answers = Finding("disk_path", Status.HEALTHY, f"{path} answers", path)
        return Reading([answers, *answer.findings], [UP.sample(1, path=path), *answer.samples])

    def _silent(self, path: str, age: float) -> Reading:
        """Return the reading of a path whose call has not returned."""
        so_far = f" ({format_duration(age)} so far)" if age > 2 * self.timeout else ""
        finding = Finding(
            "disk_path",
            Status.UNHEALTHY,
            f"{path} did not answer within {format_duration(self.timeout)}{so_far}; the mount may be dead",
            path,
            age,
            "seconds",
            self.timeout,
            Advice.WATCH,
        )
        return Reading([finding, *self.filesystems[path].remembered()], [UP.sample(0, path=path)])


def _unanswered(calls: dict[str, PathCall]) -> dict[str, PathCall]:
    """Return those of *calls* whose call has not returned."""
    return {path: call for path, call in calls.items() if not call.answer.done()}


def _refusal(path: str, error: OSError | ValueError) -> Reading:
    """Return the reading of a path that answered with an error."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        summary = f"{path} does not exist; mount or create it, or take it out of paths"
        finding = Finding("disk_path", Status.DEGRADED, summary, path, advice=Advice.FIX_CONFIG)
        return Reading([finding], [UP.sample(0, path=path)])
    if isinstance(error, PermissionError | BlockingIOError | ValueError):  # says nothing of the path itself
        advice = Advice.WATCH if isinstance(error, BlockingIOError) else Advice.FIX_CONFIG
        summary = f"cannot look at {path}: {_reason(error)}"
        return Reading([Finding("disk_path", Status.UNKNOWN, summary, path, advice=advice)])
    summary = f"{path} answers with an error: {_reason(error)}; the mount or its disk is dead"
    finding = Finding("disk_path", Status.UNHEALTHY, summary, path, advice=Advice.WATCH)
    return Reading([finding], [UP.sample(0, path=path)])


def _reason(error: OSError | ValueError) -> str:
    """Return the text of the error without the path, which the sentence already has."""
    return getattr(error, "strerror", None) or str(error)
