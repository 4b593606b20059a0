"""A thread that shows the daemon that this interpreter turns, whatever the model computes."""

from __future__ import annotations

import threading
from os import write
from time import sleep  # bound here, so that a model that replaces it in its module changes nothing


class Heartbeat(threading.Thread):
    """Writes a byte to *pipe*, which does not block, every *interval* seconds.

    A process that the model forks has no such thread. A call that holds the GIL stops it.
    """

    def __init__(self, pipe: int, interval: float) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self._pipe = pipe
        self._interval = interval

    def run(self) -> None:
        """Beat until the pipe is closed."""
        while True:
            try:
                write(self._pipe, b"\0")
            except BlockingIOError:  # the daemon has not read for hours, and will find enough
                pass
            except OSError:
                return
            sleep(self._interval)
