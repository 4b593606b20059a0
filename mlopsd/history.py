"""The history of the host: its changes and the requests that acted, in a bounded file that survives restarts.

A log record with the field ``history`` belongs to it. Each is one line of JSON.
"""

import json
import logging
import math
import os
import queue
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

from mlopsd.log import PROBE_LOGGER, Json, formatted, name_probe
from mlopsd.safe_file import open_regular

FILE = "history.jsonl"
FILE_BEFORE = "history.1.jsonl"  # the file before the current one
MOST_BYTES = 256 * 1024  # of each of the two files
MOST_EVENTS = 1_000  # in memory, about 400 kB
MOST_CHARACTERS = 4_000  # of one event
LONGEST_TEXT = 300  # characters of each field of an event that is longer
MOST_OF_PROBE = 200  # events that one probe logs itself within `DAY`; so that those of the host remain
MAIN = ("time", "level", "event", "logger", "probe", "finding", "subject", "status", "by")  # fields
DAY = 86_400.0  # seconds
MOST_WAITING = 1_000  # events; a stalled disk costs events of the file, but does not stall the daemon
END_SECONDS = 0.5
log = logging.getLogger("mlopsd.history")
Event = dict[str, Any]


class History(logging.Handler):
    """The last `MOST_EVENTS` events, also in *folder*; `mask` removes secrets from the fields of each.

    A thread of its own writes the file. *clock* is a steady clock in seconds.
    """

    mask: Callable[[Any], Any] = staticmethod(lambda value: value)

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(logging.INFO)
        self._clock = clock
        self._times = defaultdict[str, deque[float]](lambda: deque(maxlen=MOST_OF_PROBE))  # by probe
        self._reported: dict[str, float] = {}
        self.setFormatter(Json())
        self._folder = folder
        self._events: deque[str] = deque(maxlen=MOST_EVENTS)
        self._waiting: queue.Queue[str | None] = queue.Queue(MOST_WAITING)
        self._writer = threading.Thread(target=self._write_all, name="history", daemon=True)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Keep the events of the block."""
        self.start()
        try:
            yield
        finally:
            self.end()

    def start(self) -> None:
        """Read the events of earlier runs, and take those of this one from now on."""
        skipped = 0
        for name in (FILE_BEFORE, FILE):
            events, invalid = _read(self._folder / name)
            self._events.extend(events)
            skipped += invalid
        self._writer.start()
        if skipped:
            extra = {"count": skipped, "file": str(self._folder / FILE)}
            log.warning("history lines skipped", extra=extra)
        logging.getLogger("mlopsd").addHandler(self)

    def end(self) -> None:
        """Write the waiting events, for at most `END_SECONDS`."""
        logging.getLogger("mlopsd").removeHandler(self)
        if not self._writer.is_alive():
            return
        try:
            self._waiting.put(None, timeout=END_SECONDS)
        except queue.Full:
            return
        self._writer.join(END_SECONDS)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep *record* if it belongs to the history."""
        if not getattr(record, "history", False):
            return
        name_probe(record)
        if record.name.startswith(PROBE_LOGGER) and not self._has_room(record):
            return
        event = json.loads(formatted(self.format, record))
        own = {"time": event["time"], "level": event["level"], "event": self.mask(event["event"])}
        line = _line({**own, **self.mask(event), **own})  # a short secret may be part of a time, or a name
        self._events.append(line)
        try:
            self._waiting.put_nowait(line)
        except queue.Full:  # the disk stalls; the memory has the event
            return

    def _has_room(self, record: logging.LogRecord) -> bool:
        """Return whether the probe of *record* may add an event; log the first one that it may not add."""
        probe, now = record.name.removeprefix(PROBE_LOGGER).partition(".")[0], self._clock()
        times = self._times[probe]
        if len(times) < MOST_OF_PROBE or now - times[0] >= DAY:
            times.append(now)
            return True
        if now - self._reported.get(probe, -math.inf) >= DAY:
            self._reported[probe] = now
            extra = {"probe": probe, "count": MOST_OF_PROBE, "history": True}
            log.warning("history limit reached", extra=extra)
        return False

    def since(self, moment: datetime) -> list[Event]:
        """Return the events since *moment*, oldest first."""
        return list(events_since(list(self._events), moment))

    def _write_all(self) -> None:
        has_failed = False
        while (line := self._waiting.get()) is not None:
            try:
                self._write(line)
            except OSError as error:
                if not has_failed:  # once for each outage
                    extra = {"file": str(self._folder / FILE), "reason": error.strerror or str(error)}
                    log.warning("history not written", extra=extra)
                has_failed = True
            else:
                has_failed = False

    def _write(self, line: str) -> None:
        file = self._folder / FILE
        data = f"{line}\n".encode("utf-8", "backslashreplace")
        with _open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT) as stream:
            size = os.fstat(stream.fileno()).st_size
            if size > 0 and os.pread(stream.fileno(), 1, size - 1) != b"\n":
                data = b"\n" + data  # after a crash in the middle of a line
            os.write(stream.fileno(), data)
        if size + len(data) > MOST_BYTES:
            file.replace(self._folder / FILE_BEFORE)


def split_event(event: Event, *hidden: str) -> dict[str, Any]:
    """Return *event* in the form of the API: time, level, name, and the rest but *hidden* as fields."""
    own = ("time", "level", "event", "logger", *hidden)
    fields = {name: value for name, value in event.items() if name not in own}
    return {
        "time": event["time"],
        "level": str(event.get("level", "info")),
        "event": event["event"],
        "fields": fields,
    }


def read_history(folder: Path, moment: datetime) -> list[Event]:
    """Return the events in *folder* since *moment*, oldest first, without a daemon.

    Raises:
        OSError: The files cannot be read.
    """
    if not (folder / FILE_BEFORE).exists():  # the only one after a daemon that has just filled it
        (folder / FILE).stat()
    lines = [line for name in (FILE_BEFORE, FILE) for line in _read(folder / name)[0]]
    return list(events_since(lines, moment))


def _line(event: Event) -> str:
    """Return *event* as a line; one that is too long has shorter texts, or its main fields alone."""
    line = json.dumps(event, ensure_ascii=False)
    if len(line) <= MOST_CHARACTERS:
        return line
    short = {name: value[:LONGEST_TEXT] if isinstance(value, str) else value for name, value in event.items()}
    line = json.dumps(short, ensure_ascii=False)
    if len(line) <= MOST_CHARACTERS:
        return line
    return json.dumps({name: str(short[name])[:LONGEST_TEXT] for name in MAIN if name in short})


def events_since(lines: list[str], moment: datetime) -> Iterator[Event]:
    """Yield the events in *lines*, one JSON object each, since *moment*."""
    for line in lines:
        event = json.loads(line)
        if datetime.fromisoformat(event["time"]) >= moment:
            yield event


def _read(file: Path) -> tuple[list[str], int]:
    """Return the valid lines of *file*, and the number of invalid ones. A missing file has none."""
    try:
        with _open(file, os.O_RDONLY) as stream:
            lines = stream.read(MOST_BYTES + 4 * MOST_CHARACTERS).decode("utf-8", "replace").split("\n")
    except OSError:
        return [], 0
    valid = [line for line in lines if _is_event(line)]
    return valid, sum(map(bool, lines)) - len(valid)


def _is_event(line: str) -> bool:
    try:
        event = json.loads(line)
        return isinstance(event["event"], str) and datetime.fromisoformat(event["time"]).tzinfo is not None
    except (ValueError, TypeError, KeyError, RecursionError):
        return False


def _open(file: Path, flags: int) -> BinaryIO:
    """Return the regular *file*, open in binary mode.

    Raises:
        OSError: It cannot be opened, or it is no regular file.
    """
    return os.fdopen(open_regular(file, flags), "rb" if flags == os.O_RDONLY else "r+b")
