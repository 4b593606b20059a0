"""A thread that shows the daemon that this interpreter runs, even during a long computation."""

from __future__ import annotations

import threading
from os import write
from time import sleep  # bound here, so that a model that patches ``time.sleep`` has no effect


class Heartbeat(threading.Thread):
    """Writes a byte to the non-blocking *pipe* every *interval* seconds.

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
            except BlockingIOError:  # full: the daemon has not read for hours, and a full pipe is sign enough
                pass
            except OSError:
                return
            sleep(self._interval)
