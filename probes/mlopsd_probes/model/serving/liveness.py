"""Tells a model's process that is slow from one that hangs or stalls.

A thread of that process writes a byte to a pipe about once a second, as long as its interpreter turns. No
large answer can delay that pipe. A process that computes for long keeps beating, so it is slow and not hung.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

BEAT = 1.0  # seconds between two beats, and between two looks at them
SHARE = 5  # beats that fit into hang_timeout, at least
PIPE = 65536  # bytes that a pipe holds

Reason = Literal["hang", "stall"]


@dataclass(frozen=True, slots=True)
class Backlog:
    """Callers' requests that have no answer yet.

    Attributes:
        requests: how many, those included that nobody waits for any more.
        seconds: how long the process has finished nothing while something waited.
    """

    requests: int = 0
    seconds: float = 0.0


def beat_interval(hang_timeout: float) -> float:
    """Return the seconds between two beats of a process that is hung after *hang_timeout*."""
    return min(BEAT, hang_timeout / SHARE)


class Silence:
    """Seconds without a sign of life, counted look by look.

    One look adds at most *step* seconds. A daemon that was stopped or busy itself therefore does not take its
    own absence for silence.
    """

    def __init__(self, step: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._step = step
        self._clock = clock
        self._added_at = clock()
        self.seconds = 0.0

    def add(self, *, sign: bool) -> float:
        """Return the seconds without a sign; *sign* says whether there was one since the last look."""
        now = self._clock()
        self.seconds = 0.0 if sign else self.seconds + min(now - self._added_at, self._step)
        self._added_at = now
        return self.seconds


class HeartbeatPipe:
    """The reading end of the pipe on which a model's process beats.

    Attributes:
        write_end: the descriptor that the process gets.

    Raises:
        OSError: no descriptor is left.
    """

    def __init__(self) -> None:
        self._read_end, self.write_end = os.pipe()
        os.set_blocking(self._read_end, False)
        os.set_blocking(self.write_end, False)

    def has_beaten(self) -> bool:
        """Return whether a beat has come since the last call."""
        try:
            return bool(os.read(self._read_end, PIPE))
        except OSError:  # nothing has come, or it is closed
            return False

    def close_write_end(self) -> None:
        """Close what the process has inherited."""
        if self.write_end >= 0:
            os.close(self.write_end)
            self.write_end = -1

    def close(self) -> None:
        """Close both ends."""
        self.close_write_end()
        if self._read_end >= 0:
            os.close(self._read_end)
            self._read_end = -1


class Liveness:
    """Judges one process by its beats and by its answers."""

    def __init__(
        self, hang_timeout: float, stall_timeout: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._hang_timeout = hang_timeout
        self._stall_timeout = stall_timeout
        self.interval = beat_interval(hang_timeout)
        self._without_beat = Silence(2 * self.interval, clock)
        self._without_answer = Silence(2 * self.interval, clock)
        self._answered = 0

    @property
    def is_beating(self) -> bool:
        """Return whether the last beats came, as far as `judge` was told."""
        return self._without_beat.seconds < SHARE * self.interval

    @property
    def unanswered(self) -> float:
        """Return the seconds in which something waited and nothing was finished, as far as `judge` knows."""
        return self._without_answer.seconds

    def judge(self, *, has_beaten: bool, waiting: int, answered: int) -> tuple[Reason, str] | None:
        """Return what is wrong and why, or None; *waiting* requests have no answer, *answered* have one."""
        has_progress = not waiting or answered != self._answered
        self._answered = answered
        silent = self._without_beat.add(sign=has_beaten)
        stalled = self._without_answer.add(sign=has_progress)
        if silent >= self._hang_timeout:
            return "hang", f"it has sent no heartbeat for {self._hang_timeout:g} s (hang_timeout)"
        if stalled >= self._stall_timeout:
            return "stall", (
                f"it has finished no prediction for {self._stall_timeout:g} s (stall_timeout), "
                f"and {waiting} {'request waits' if waiting == 1 else 'requests wait'}"
            )
        return None
