"""Distinguish a slow model process from one that hangs or stalls.

A thread of that process writes a byte to a pipe about once a second, as long as its interpreter runs. A
large answer cannot delay that pipe. A process in a long computation keeps beating, so it is slow and not
hung.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

BEAT = 1.0  # seconds between two beats, and between two checks for them
SHARE = 5  # least number of beats in a hang_timeout
PIPE = 65536  # capacity of a pipe in bytes

Reason = Literal["hang", "stall"]


@dataclass(frozen=True, slots=True)
class Backlog:
    """Callers' requests that have no answer yet.

    Attributes:
        requests: their number, including those whose caller stopped waiting.
        seconds: the time for which the process has finished nothing while a request waited.
    """

    requests: int = 0
    seconds: float = 0.0


def beat_interval(hang_timeout: float) -> float:
    """Return the seconds between two beats, given the *hang_timeout*."""
    return min(BEAT, hang_timeout / SHARE)


class Silence:
    """Seconds without a sign of life, counted from check to check.

    One check adds at most *step* seconds. So a daemon that was stopped or busy does not count its own pause
    as silence of the process.
    """

    def __init__(self, step: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._step = step
        self._clock = clock
        self._added_at = clock()
        self.seconds = 0.0

    def add(self, *, sign: bool) -> float:
        """Return the seconds without a sign; *sign* is whether there was one since the last check."""
        now = self._clock()
        self.seconds = 0.0 if sign else self.seconds + min(now - self._added_at, self._step)
        self._added_at = now
        return self.seconds


class HeartbeatPipe:
    """The reading end of the pipe for the beats of a model's process.

    Attributes:
        write_end: the descriptor that the process inherits.

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
        except OSError:  # the pipe is empty or closed
            return False

    def close_write_end(self) -> None:
        """Close the descriptor that the process has inherited."""
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
    """Judges one process by its beats and its answers."""

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
        """Return whether the last beats came, as of the last `judge`."""
        return self._without_beat.seconds < SHARE * self.interval

    @property
    def unanswered(self) -> float:
        """Return the seconds in which a request waited and none was finished, as of the last `judge`."""
        return self._without_answer.seconds

    def judge(self, *, has_beaten: bool, waiting: int, answered: int) -> tuple[Reason, str] | None:
        """Return the problem and the reason, or None.

        Args:
            has_beaten: whether a beat has come since the last call.
            waiting: the number of unanswered requests.
            answered: the number of answered requests.
        """
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
