"""A caller that asks on a beat and does not wait for a late answer before it counts the next."""

import threading
import time

from bench.web import WebConnection

PERIOD = 0.01


class Caller(threading.Thread):
    """GETs *path* at *port* until told to end; an answer's time runs from when its request was due."""

    def __init__(self, port: int, path: str = "/health/", period: float = PERIOD) -> None:
        super().__init__(name="caller", daemon=True)
        self._connection = WebConnection(port)
        self._path = path
        self._period = period
        self._enough = threading.Event()
        self.seconds: list[float] = []

    def run(self) -> None:
        """Ask on a beat that no late answer moves."""
        due = time.perf_counter()
        while not self._enough.wait(max(due - time.perf_counter(), 0)):
            self._connection.get(self._path)
            self.seconds.append(time.perf_counter() - due)
            due += self._period

    def end(self) -> list[float]:
        """Stop asking; the seconds that each answer took."""
        self._enough.set()
        self.join()
        self._connection.close()
        return self.seconds
