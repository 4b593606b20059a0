"""The threads that predict: one, several, or one and others for small requests beside a large one."""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from . import wire

SLOW = 1.0  # seconds after which a prediction no longer holds up smaller ones
LOOK = 0.25  # seconds between two looks at the first thread
TURN = 0.05  # seconds for which another thread waits for frames in the place of the first
HELPERS = 4  # threads for small requests; with one, the large one would take half of the interpreter's time

Answer = tuple["dict[str, Any]", bytes]


@dataclass
class Job:
    """Requests that one prediction answers; *rows* is their size, or None if it waits for its turn."""

    rows: int | None
    answers: Callable[[], Iterable[Sequence[Answer]]]


class Lanes:
    """Threads that take jobs in their order, from frames that whichever is free reads.

    With *threads* = "auto" the first thread takes every job. While it has worked at one for more than `SLOW`
    seconds, other threads take the smaller ones. A model with state of its own could mix up two requests;
    so equal ones are predicted one after the other.
    """

    def __init__(
        self,
        channel: Any,
        threads: int | str,
        *,
        read: Callable[[Sequence[wire.Frame]], Iterable[Job]],
        send: Callable[[Sequence[Answer]], None],
    ) -> None:
        self._inbox = wire.Inbox(channel)
        self._threads = threads
        self._read = read
        self._send = send
        self._jobs: deque[Job] = deque()
        self._turn = threading.Lock()
        self._is_slow = threading.Event()
        self._working: tuple[float, int | None] | None = None  # since when, and at how many rows

    @property
    def waiting(self) -> int:
        """Return the number of jobs that no thread has begun."""
        return len(self._jobs)

    def run(self) -> None:
        """Answer until the daemon closes the channel."""
        if self._threads == "auto":
            self._start("looking for slow requests", self._look)
            for number in range(HELPERS):
                self._start(f"predicting small requests {number}", self._help)
        for number in range(1, self._threads if isinstance(self._threads, int) else 1):
            self._start(f"predicting {number}", self._work)
        self._work()

    def _start(self, name: str, work: Callable[[], None]) -> None:
        def run() -> None:
            try:
                work()
            except BaseException:  # noqa: BLE001  # the process ends, and the log has the reason
                traceback.print_exc()
                sys.stderr.flush()
                os._exit(1)

        threading.Thread(target=run, name=name, daemon=True).start()

    def _work(self) -> None:
        while (job := self._next()) is not None:
            self._working = time.monotonic(), job.rows
            self._answer(job)
            self._working = None

    def _look(self) -> None:
        while not self._inbox.is_closed:
            time.sleep(LOOK)
            if self._rows_of_slow():
                self._is_slow.set()

    def _help(self) -> None:
        while self._is_slow.wait():
            while (rows := self._rows_of_slow()) and (job := self._next_below(rows)) is not None:
                self._answer(job)
            self._is_slow.clear()

    def _answer(self, job: Job) -> None:
        for answers in job.answers():
            self._send(answers)

    def _next(self) -> Job | None:
        with self._turn:
            self._fill(timeout=0 if self._jobs else None)
            while not (self._jobs or self._inbox.is_closed):  # frames that hold no job
                self._fill(timeout=None)
            return self._jobs.popleft() if self._jobs else None

    def _next_below(self, rows: int) -> Job | None:
        """Return the first job with fewer than *rows*, or None if there is none soon."""
        with self._turn:
            self._fill(timeout=0)
            if (job := self._smaller(rows)) is None:
                self._fill(timeout=TURN)
                job = self._smaller(rows)
            if job is not None:
                self._jobs.remove(job)
            return job

    def _smaller(self, rows: int) -> Job | None:
        return next((job for job in self._jobs if job.rows is not None and job.rows < rows), None)

    def _fill(self, *, timeout: float | None) -> None:
        frames = self._inbox.wait(timeout)
        if frames:
            self._jobs.extend(self._read(frames))

    def _rows_of_slow(self) -> int | None:
        """Return the rows of the first thread's job, if it has worked at it for long."""
        if (working := self._working) is None or time.monotonic() - working[0] < SLOW:
            return None
        return working[1]
