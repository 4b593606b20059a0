"""A probe that leaves a process behind which ignores every signal that it may."""

import os
import signal

from mlopsd.probe import Finding, Probe, Reading, Schedule, Status


class Lingering(Probe):
    """Says the pid of what it left behind."""

    schedule = Schedule(interval=3600, isolation="process", critical=True)

    def check(self) -> Reading:
        """Leave one more behind."""
        pid = os.fork()
        if pid == 0:
            _linger()
        return Reading([Finding("left", Status.HEALTHY, "one process left behind")], facts={"pid": pid})


def _linger() -> None:
    os.setsid()
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN)
    while True:
        signal.pause()
