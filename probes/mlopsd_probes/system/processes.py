"""Processes that no signal ends, the first sign of a hung driver."""

import errno
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from mlopsd.format import format_duration
from mlopsd.probe import Advice, Finding, Metric, Reading, Status
from mlopsd_probes.system.collector import HostCollector
from mlopsd_probes.system.options import SystemOptions

SLEEPING = Metric("uninterruptible_processes", "Processes in uninterruptible sleep (state D) for any time.")
STUCK = Metric(
    "stuck_processes",
    "Processes in the same uninterruptible sleep, or with a SIGKILL pending, for at least stuck_after.",
)
ENDED = (b"Z", b"X")
SIGKILL = 1 << (signal.SIGKILL - 1)
STAT_BYTES = 1024  # a stat line has 52 fields and about 300 bytes
NAMED = 5  # commands in a summary
HIDDEN = (
    "other users' processes are hidden (hidepid=, ProtectProc=); "
    "run mlopsd in the group that /proc is mounted with (gid=), or take ProtectProc= out of its unit"
)


@dataclass(frozen=True, slots=True)
class Stall:
    """One uninterruptible sleep of a process, or a SIGKILL that it does not obey.

    After the process has run, its next sleep is another one.

    Attributes:
        pid: the id of the process.
        started: ticks after boot; distinguishes a reused pid.
        switches: context switches so far, which the kernel's hung-task detector compares too; None if the
            stall is the SIGKILL.
        command: the name of the process.
        state: the letter of its state, as ``ps`` shows it.
        is_killed: a SIGKILL is pending, also if the stall is a sleep.
    """

    pid: int
    started: int
    switches: int | None
    command: str
    state: str = field(compare=False)
    is_killed: bool = field(compare=False)

    @property
    def is_sleep(self) -> bool:
        """True if it is an uninterruptible sleep."""
        return self.switches is not None


class StuckProcesses(HostCollector):
    """Processes from ``/proc/[pid]/stat``, and ``status`` of the few in state D; threads are not read.

    Readers of a busy disk are often in state D, but each time in another sleep. A stuck process is in the
    same sleep at every check, or stays although it got a SIGKILL.
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
        self._since: dict[Stall, float] = {}

    def collect(self) -> Reading:
        """Return the number of sleeping processes, and those that are stuck longer than ``stuck_after``.

        Raises:
            PermissionError: /proc hides processes, so the count would be wrong.
        """
        init = self._proc / "1/stat"
        if not os.access(init, os.R_OK):
            raise PermissionError(errno.EACCES, HIDDEN, str(init))
        now = self._clock()
        self._since = {stall: self._since.get(stall, now) for stall in self._stalls()}
        ages = {stall: now - first for stall, first in self._since.items()}
        stuck = _longest_of_each(
            {stall: age for stall, age in ages.items() if age >= self._options.stuck_after}
        )
        sleeping = sum(stall.is_sleep for stall in ages)
        finding = self._judge(stuck) if stuck else self._healthy(sleeping, ages)
        return Reading([finding], [SLEEPING.sample(sleeping), STUCK.sample(len(stuck))])

    def _stalls(self) -> Iterator[Stall]:
        """Return the current stalls, without those of ignored commands."""
        for stall in stalls(self._proc):
            if not _matches(stall.command, self._options.stuck_ignored_commands):
                yield stall

    def _judge(self, stuck: dict[Stall, float]) -> Finding:
        """Judge the stuck processes; name the driver's first."""
        is_driver = {
            stall: _matches(stall.command, self._options.stuck_unhealthy_commands) for stall in stuck
        }
        ordered = sorted(stuck, key=lambda stall: (not is_driver[stall], -stuck[stall]))
        names = ", ".join(map(_title, ordered[:NAMED]))
        more = f" and {len(stuck) - NAMED} more" if len(stuck) > NAMED else ""
        longest, limit = max(stuck.values()), self._options.stuck_after
        times = f"{format_duration(longest)} (limit {format_duration(limit)})"
        fact = "in one uninterruptible sleep for" if ordered[0].is_sleep else "no end after SIGKILL for"
        hung = any(is_driver.values())
        return Finding(
            "stuck_processes",
            Status.UNHEALTHY if hung else Status.DEGRADED,
            f"{fact} {times}: {names}{more}",
            observed=longest,
            unit="seconds",
            limit=limit,
            advice=Advice.REBOOT if hung else Advice.WATCH,
        )

    def _healthy(self, sleeping: int, ages: dict[Stall, float]) -> Finding:
        """Return the finding while no process is stuck; without a stall it has no observed value."""
        limit = self._options.stuck_after
        summary = f"processes in uninterruptible sleep: {sleeping}, none for {format_duration(limit)}"
        longest = max(ages.values(), default=None)
        return Finding("stuck_processes", Status.HEALTHY, summary, None, longest, "seconds", limit)


def _longest_of_each(stuck: Mapping[Stall, float]) -> dict[Stall, float]:
    """Return the longest stall of each process: one in a sleep may have a SIGKILL too."""
    by_age = sorted(stuck, key=stuck.__getitem__)
    return {stall: stuck[stall] for stall in {stall.pid: stall for stall in by_age}.values()}


def _title(stall: Stall) -> str:
    """Return the process with what shows where it hangs."""
    state = f", state {stall.state} after SIGKILL" if stall.is_killed else ""
    return f"{stall.command} (pid {stall.pid}{state})"


def _matches(command: str, patterns: tuple[str, ...]) -> bool:
    """Return true if *command* matches one of the shell *patterns*."""
    return any(fnmatchcase(command, pattern) for pattern in patterns)


def stalls(proc: Path) -> Iterator[Stall]:
    """Yield the processes in state D or with a pending SIGKILL; skip a process that ends meanwhile."""
    folder = os.open(proc, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for name in os.listdir(folder):  # noqa: PTH208  # a Path for each name doubles the cost
            if name.isdecimal():
                with suppress(FileNotFoundError, ProcessLookupError):
                    yield from _stalls_of(name, folder)
    finally:
        os.close(folder)


def _stalls_of(pid: str, folder: int) -> Iterator[Stall]:
    """Yield the stalls of one process; *folder* is a descriptor of ``/proc``.

    A zombie has ended, unless other threads of it are left.
    """
    line = _read_at(f"{pid}/stat", folder)
    state, *fields = line[line.rindex(b")") + 1 :].split()
    threads, started, pending = int(fields[16]), int(fields[18]), int(fields[27])  # the fields 20, 22, 31
    is_killed = bool(pending & SIGKILL) and (state not in ENDED or threads > 1)
    if state != b"D" and not is_killed:
        return
    command = line[line.index(b"(") + 1 : line.rindex(b")")]  # may itself contain brackets and spaces
    about = (command.decode(errors="backslashreplace"), state.decode(), is_killed)
    if is_killed:
        yield Stall(int(pid), started, None, *about)
    if state == b"D":
        switches = context_switches(_read_at(f"{pid}/status", folder, 16 * STAT_BYTES))
        yield Stall(int(pid), started, switches, *about)


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
