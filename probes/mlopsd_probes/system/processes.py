"""Processes in uninterruptible sleep, the first sign of a hung driver."""

import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from mlopsd.format import format_duration
from mlopsd.probe import Advice, Finding, Metric, Reading, Status
from mlopsd_probes.system.collector import HostCollector
from mlopsd_probes.system.options import SystemOptions

SLEEPING = Metric("uninterruptible_processes", "Processes in uninterruptible sleep (state D) for any time.")
STUCK = Metric("stuck_processes", "Processes in the same uninterruptible sleep for at least stuck_after.")
STAT_BYTES = 1024  # a stat line has 52 fields and about 300 bytes
NAMED = 5  # commands in a summary
HIDDEN = (
    "other users' processes are hidden (hidepid=, ProtectProc=); "
    "run mlopsd in the group that /proc is mounted with (gid=), or take ProtectProc= out of its unit"
)


class Sleep(NamedTuple):
    """An uninterruptible sleep of one process; after the process has run, its next sleep is another one."""

    pid: int
    started: int  # ticks after boot; distinguishes a reused pid
    switches: int  # context switches so far; the kernel's hung-task detector compares them too
    command: str


class StuckProcesses(HostCollector):
    """Processes from ``/proc/[pid]/stat``, and ``status`` of the few in state D; threads are not read.

    Readers of a busy disk are often in state D, but each time in another sleep. A stuck process is in the
    same sleep at every check.
    """

    name = "stuck_processes"
    source = "/proc"
    findings = ("stuck_processes",)
    metrics = (SLEEPING, STUCK)

    def __init__(
        self,
        options: SystemOptions,
        proc: Path = Path("/proc"),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._options = options
        self._proc = proc
        self._clock = clock
        self._since: dict[Sleep, float] = {}

    def collect(self) -> Reading:
        """Return the number of sleeping processes, and those that sleep longer than ``stuck_after``.

        Raises:
            PermissionError: /proc hides processes, so the count would be wrong.
        """
        init = self._proc / "1/stat"
        if not os.access(init, os.R_OK):
            raise PermissionError(errno.EACCES, HIDDEN, str(init))
        now = self._clock()
        self._since = {sleep: self._since.get(sleep, now) for sleep in self._sleeps()}
        ages = {sleep: now - first for sleep, first in self._since.items()}
        stuck = {sleep: age for sleep, age in ages.items() if age >= self._options.stuck_after}
        finding = self._judge(stuck) if stuck else self._healthy(ages)
        return Reading([finding], [SLEEPING.sample(len(ages)), STUCK.sample(len(stuck))])

    def _sleeps(self) -> Iterator[Sleep]:
        """Return the current uninterruptible sleeps, without those of ignored commands."""
        for sleep in uninterruptible(self._proc):
            if not _matches(sleep.command, self._options.stuck_ignored_commands):
                yield sleep

    def _judge(self, stuck: dict[Sleep, float]) -> Finding:
        """Judge the stuck processes; name the driver's first."""
        is_driver = {
            sleep: _matches(sleep.command, self._options.stuck_unhealthy_commands) for sleep in stuck
        }
        ordered = sorted(stuck, key=lambda sleep: (not is_driver[sleep], -stuck[sleep]))
        names = ", ".join(f"{sleep.command} (pid {sleep.pid})" for sleep in ordered[:NAMED])
        more = f" and {len(stuck) - NAMED} more" if len(stuck) > NAMED else ""
        longest, limit = max(stuck.values()), self._options.stuck_after
        times = f"{format_duration(longest)} (limit {format_duration(limit)})"
        hung = any(is_driver.values())
        return Finding(
            "stuck_processes",
            Status.UNHEALTHY if hung else Status.DEGRADED,
            f"in one uninterruptible sleep for {times}: {names}{more}",
            observed=longest,
            unit="seconds",
            limit=limit,
            advice=Advice.REBOOT if hung else Advice.WATCH,
        )

    def _healthy(self, ages: dict[Sleep, float]) -> Finding:
        """Return the finding while no process is stuck; without a sleeping one it has no observed value."""
        limit = self._options.stuck_after
        summary = f"processes in uninterruptible sleep: {len(ages)}, none for {format_duration(limit)}"
        longest = max(ages.values(), default=None)
        return Finding("stuck_processes", Status.HEALTHY, summary, None, longest, "seconds", limit)


def _matches(command: str, patterns: tuple[str, ...]) -> bool:
    """Return true if *command* matches one of the shell *patterns*."""
    return any(fnmatchcase(command, pattern) for pattern in patterns)


def uninterruptible(proc: Path) -> Iterator[Sleep]:
    """Yield the processes in state D; skip a process that ends meanwhile."""
    folder = os.open(proc, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for name in os.listdir(folder):  # noqa: PTH208  # a Path for each name doubles the cost
            if name.isdecimal():
                with suppress(FileNotFoundError, ProcessLookupError):
                    yield from _sleep_of(name, folder)
    finally:
        os.close(folder)


def _sleep_of(pid: str, folder: int) -> list[Sleep]:
    """Return the sleep of one process, if it is in state D; *folder* is a descriptor of ``/proc``."""
    line = _read_at(f"{pid}/stat", folder)
    command = line[line.index(b"(") + 1 : line.rindex(b")")]  # may itself contain brackets and spaces
    state, *fields = line[line.rindex(b")") + 1 :].split()
    if state != b"D":
        return []
    started = int(fields[18])  # starttime, the 22nd field of the line
    switches = context_switches(_read_at(f"{pid}/status", folder, 16 * STAT_BYTES))
    return [Sleep(int(pid), started, switches, command.decode(errors="backslashreplace"))]


def context_switches(status: bytes) -> int:
    """Return the voluntary and involuntary switches together.

    Raises:
        ValueError: *status* has none.
    """
    counts = [int(line.split()[1]) for line in status.splitlines() if b"ctxt_switches:" in line]
    if not counts:
        raise ValueError("no context switches in /proc/[pid]/status")
    return sum(counts)


def _read_at(path: str, folder: int, most: int = STAT_BYTES) -> bytes:
    """Read at most *most* bytes of a file in one call, at a third of the cost of a file object."""
    file = os.open(path, os.O_RDONLY, dir_fd=folder)
    try:
        return os.read(file, most)
    finally:
        os.close(file)
