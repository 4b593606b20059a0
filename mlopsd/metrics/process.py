"""The daemon's own process under the conventional names, from ``/proc/self`` (proc(5)) and getrlimit(2)."""

import os
import resource
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from aioprometheus.collectors import Gauge, Registry

from mlopsd.metrics.exposition import number_text
from mlopsd.metrics.family import Family, Written

AT_MOST_EVERY = 1.0  # seconds; a read of all costs 0.2 ms where the processor has done other things meanwhile
MOST_OF_STAT = 4096  # bytes; it has some 300

PROCESS_FAMILIES = (
    Family("process_cpu_seconds_total", "CPU time that the process has used.", "counter", "seconds"),
    Family("process_resident_memory_bytes", "Memory of the process that is in RAM.", unit="bytes"),
    Family("process_virtual_memory_bytes", "Address space of the process.", unit="bytes"),
    Family("process_open_fds", "File descriptors that the process has open."),
    Family("process_max_fds", "File descriptors that the process may have open."),
    Family("process_start_time_seconds", "When the process started, in seconds since 1970.", unit="seconds"),
)


class ProcessNumber(Written, Gauge):
    """One number of the process, absent while it cannot be read."""

    def put(self, value: float | None) -> None:
        """The number is now *value*; None takes it off the page."""
        if value == self.values.get({}):
            return
        if value is None:
            self.drop({})
        else:
            self.set({}, value)
        self.mark.set()

    def text(self) -> str:
        """The one line, or none."""
        return "".join(f"{self.name} {number_text(float(value))}\n" for value in self.values.values())


class Process:
    """Reads the process anew when asked, at most once a second on *clock*."""

    def __init__(self, registry: Registry, clock: Callable[[], float], proc: Path) -> None:
        self.families = [ProcessNumber(family, registry) for family in PROCESS_FAMILIES]
        self._clock = clock
        self._stat_file, self._fds_folder = str(proc / "stat"), str(proc / "fd")
        self._read_at: float | None = None
        self._booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)  # once: it must not wander

    def refresh(self) -> None:
        """Read, unless that was done within the last second."""
        now = self._clock()
        if self._read_at is None or now - self._read_at >= AT_MOST_EVERY:
            self._read_at = now
            read = self._read()
            for family in self.families:
                family.put(read.get(family.name))

    def _read(self) -> Mapping[str, float]:
        """Each number that can be read; what is not there, or not in the form of proc(5), is left out."""
        read: dict[str, float] = {}
        for some in (self._stat, self._open_fds, self._max_fds):
            with suppress(OSError, ValueError, IndexError):
                read.update(some())
        return read

    def _stat(self) -> Iterator[tuple[str, float]]:
        fields = _start_of(self._stat_file).rpartition(b")")[2].split()  # from the third on
        ticks, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
        user, system, started, virtual, resident = (int(fields[place]) for place in (11, 12, 19, 20, 21))
        yield "process_cpu_seconds_total", (user + system) / ticks
        yield "process_start_time_seconds", self._booted + started / ticks
        yield "process_virtual_memory_bytes", virtual
        yield "process_resident_memory_bytes", resident * page

    def _open_fds(self) -> Iterator[tuple[str, float]]:
        yield "process_open_fds", len(os.listdir(self._fds_folder)) - 1  # noqa: PTH208  # one is this look's

    def _max_fds(self) -> Iterator[tuple[str, float]]:
        most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if most != resource.RLIM_INFINITY:
            yield "process_max_fds", most


def _start_of(path: str) -> bytes:
    """What the file *path* begins with; for one so small pathlib takes three times as long."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(file, MOST_OF_STAT)
    finally:
        os.close(file)
