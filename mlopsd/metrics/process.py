"""The daemon's own process under the conventional names, from ``/proc/self`` (proc(5)) and getrlimit(2)."""

import math
import os
import resource
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from mlopsd.metrics.collectors import FamilyCollector
from mlopsd.metrics.families import PROCESS_FAMILIES, Family

AT_MOST_EVERY = 1.0  # seconds; a read of all costs 0.2 ms where the processor has done other things meanwhile


class ProcessCollector:
    """The numbers of this process, read when asked, at most once a second on *clock*.

    Attributes:
        collectors: one for each number; a number that cannot be read is absent.
    """

    def __init__(
        self, open_family: Callable[[Family], FamilyCollector], clock: Callable[[], float], proc: Path
    ) -> None:
        self.collectors = list(map(open_family, PROCESS_FAMILIES))
        self._clock = clock
        self._proc = proc
        self._read_at = -math.inf
        self._booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)  # once: it must not wander

    def refresh(self) -> None:
        """Read, unless that was done within the last second."""
        now = self._clock()
        if now - self._read_at < AT_MOST_EVERY:
            return
        self._read_at, read = now, self._read()
        for collector in self.collectors:
            if (number := read.get(collector.family.name)) is None:
                collector.remove(())
            else:
                collector.set((), number)

    def _read(self) -> Mapping[str, float]:
        """Read each number; leave out those that are not there or not in the form of proc(5)."""
        read: dict[str, float] = {}
        for some in (self._stat, self._open_fds, self._max_fds):
            with suppress(OSError, ValueError, IndexError):
                read.update(some())
        return read

    def _stat(self) -> Iterator[tuple[str, float]]:
        fields = (self._proc / "stat").read_bytes().rpartition(b")")[2].split()  # from the third on
        ticks, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
        user, system, started, virtual, resident = (int(fields[place]) for place in (11, 12, 19, 20, 21))
        yield "process_cpu_seconds_total", (user + system) / ticks
        yield "process_start_time_seconds", self._booted + started / ticks
        yield "process_virtual_memory_bytes", virtual
        yield "process_resident_memory_bytes", resident * page

    def _open_fds(self) -> Iterator[tuple[str, float]]:
        yield "process_open_fds", len(list((self._proc / "fd").iterdir())) - 1  # one is this look's

    def _max_fds(self) -> Iterator[tuple[str, float]]:
        most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if most != resource.RLIM_INFINITY:
            yield "process_max_fds", most
