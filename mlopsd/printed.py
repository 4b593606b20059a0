"""The lines that code prints in the daemon, as log records: a raw line is no line of a JSON log."""

import io
import logging
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TextIO

from typing_extensions import Buffer, override

from mlopsd.exceptions import safe_message
from mlopsd.log import PROBE
from mlopsd.log_limit import LogLimiter, fingerprint
from mlopsd.process.child import LINES_PER_HOUR, LONGEST_LINE, new_lines

log = logging.getLogger("mlopsd.printed")


@contextmanager
def logging_prints() -> Iterator[None]:
    """Log each line that is printed to standard output or error, and each thread that fails.

    A terminal stays a terminal, for a debugger.
    """
    before, hook = (sys.stdout, sys.stderr), threading.excepthook
    replaced = [PrintedLines(stream) for stream in before if stream is not None and not stream.isatty()]
    by_stream = {id(lines.stream): lines.as_text() for lines in replaced}
    sys.stdout, sys.stderr = (by_stream.get(id(stream), stream) for stream in before)
    threading.excepthook = partial(_log_failed_thread, LogLimiter())
    try:
        yield
    finally:
        threading.excepthook = hook
        sys.stdout, sys.stderr = before
        for lines in replaced:
            lines.end()


def _log_failed_thread(limiter: LogLimiter, failed: threading.ExceptHookArgs) -> None:
    """Log that a thread ended with an exception, once per hour and message."""
    value = failed.exc_value
    if value is None or isinstance(value, SystemExit):  # SystemExit ends a thread without a failure
        return
    if limiter.allow((failed.exc_type, fingerprint(safe_message(value)))) is not None:
        name = failed.thread.name if failed.thread is not None else ""
        log.error("thread failed", extra={"thread_name": name}, exc_info=value)


class PrintedLines(io.RawIOBase):
    """The stream in place of *stream*. Each line becomes a record that names its probe, if it is known.

    Logging is a queue, so no caller waits. Each probe has its own limit of lines. The limit also ends the
    loop of a log that fails and prints why.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self.stream = stream
        self._rests: defaultdict[str, bytes] = defaultdict(bytes)  # of unfinished lines, by probe
        self._limiters = defaultdict[str, LogLimiter](partial(LogLimiter, most=LINES_PER_HOUR))
        self._lock = threading.RLock()  # a finalizer may print in a thread that prints

    def as_text(self) -> TextIO:
        """Return it as a stream of text that keeps nothing back."""
        return io.TextIOWrapper(self, "utf-8", "backslashreplace", write_through=True)  # type: ignore[type-var]

    @override
    def fileno(self) -> int:
        """Return the descriptor of *stream*, for a process that inherits it."""
        return self.stream.fileno()

    @override
    def writable(self) -> bool:
        """Return True."""
        return True

    @override
    def write(self, data: Buffer, /) -> int:
        """Log the finished lines of *data*, UTF-8, and keep the rest."""
        probe, text = PROBE.get(), bytes(data)
        with self._lock:
            *lines, rest = (self._rests[probe] + text).split(b"\n")
            self._rests[probe] = rest[:LONGEST_LINE]
            found = new_lines(lines, self._limiters[probe])
        _log(probe, found)  # without the lock: a log that fails prints
        return len(text)

    @override
    def close(self) -> None:
        """Stay open: the other probes print too."""

    def end(self) -> None:
        """Log the unfinished lines."""
        for probe, rest in list(self._rests.items()):
            _log(probe, new_lines([rest], self._limiters[probe]))


def _log(probe: str, lines: Sequence[str]) -> None:
    for line in lines:
        if probe:
            log.info("probe printed", extra={"probe": probe, "line": line})
        else:
            log.info("line printed", extra={"line": line})
