"""The daemon's log: an event and fields, as JSON lines or as text, written where nothing waits for it."""

import logging
import logging.handlers
import queue
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

from pythonjsonlogger.json import JsonFormatter

from mlopsd.format import format_time

Form = Literal["json", "text", "auto"]
MOST_WAITING = 10_000  # records; a journal that takes none costs records, not the daemon
FLUSH_SECONDS = 0.5
PLAIN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class Drain(threading.Thread):
    """Writes what is logged, in a thread: a stalled journal must not stall the event loop."""

    def __init__(self, handler: logging.StreamHandler[TextIO]) -> None:
        super().__init__(name="log", daemon=True)
        self.records: queue.Queue[logging.LogRecord | None] = queue.Queue(MOST_WAITING)
        self.handler = handler
        self.on_loss: Callable[[], None] = lambda: None  # called for each record that found no room

    def run(self) -> None:
        """Write until told to end."""
        while (record := self.records.get()) is not None:
            self.handler.handle(record)

    def write_as(self, form: Form, *, debug: bool) -> None:
        """From now on write *form*; ``auto`` is text in debug mode or on a terminal."""
        text = form == "text" or (form == "auto" and (debug or self.handler.stream.isatty()))
        self.handler.setFormatter(Text() if text else Json())

    def end(self) -> None:
        """Write what waits, for as long as `FLUSH_SECONDS`."""
        try:
            self.records.put(None, timeout=FLUSH_SECONDS)
        except queue.Full:
            return
        self.join(FLUSH_SECONDS)


class Waiting(logging.handlers.QueueHandler):
    """Hands a record to the `Drain`, or counts it as lost; never waits."""

    def __init__(self, drain: Drain) -> None:
        super().__init__(drain.records)
        self._drain = drain

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """*record* as it is; its fields are values, and the thread formats them."""
        return record

    def enqueue(self, record: logging.LogRecord) -> None:
        """Put *record* in the queue, if there is room."""
        try:
            self._drain.records.put_nowait(record)
        except queue.Full:
            self._drain.on_loss()


class Text(logging.Formatter):
    """One line for a person: time, level, event, fields."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, and the traceback below it where there is one, set in: no text of others is a line."""
        at = datetime.fromtimestamp(record.created, UTC).astimezone().strftime("%H:%M:%S.%f")[:-3]
        fields = _fields(record)
        traceback = str(fields.pop("traceback", ""))  # as a probe's own process sends it
        if record.exc_info:
            traceback = self.formatException(record.exc_info)
        told = " ".join(f"{name}={_quoted(value)}" for name, value in fields.items() if value != [])
        line = f"{at} {record.levelname:7} {_escaped(record.getMessage())}  {told}".rstrip()
        return "\n".join([line, *(f"    {_escaped(below)}" for below in traceback.splitlines())])


class Json(JsonFormatter):
    """One JSON object a line: ``time``, ``level``, ``logger``, ``event`` and the fields."""

    def add_fields(
        self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]
    ) -> None:
        """Our names for what every line has, then the record's own fields."""
        log_data["time"] = format_time(datetime.fromtimestamp(record.created, UTC))
        log_data["level"] = record.levelname.lower()
        log_data["logger"] = record.name
        log_data["event"] = record.getMessage()
        log_data.update(_fields(record))
        if record.exc_info:
            log_data["traceback"] = self.formatException(record.exc_info)


def start(
    level: str,
    form: Form,
    *,
    debug: bool = False,
    stream: TextIO | None = None,
) -> Drain:
    """Begin to log to *stream* (standard error); text in debug mode or on a terminal unless *form* says."""
    drain = Drain(logging.StreamHandler(sys.stderr if stream is None else stream))
    drain.write_as(form, debug=debug)
    drain.start()
    logging.getLogger().handlers = [Waiting(drain)]
    set_level(level)
    return drain


def set_level(level: str) -> None:
    """From now on log *level* and above; what libraries say, from WARNING."""
    logging.getLogger().setLevel(logging.WARNING)
    logging.getLogger("mlopsd").setLevel(level)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in record.__dict__.items() if name not in PLAIN}


def _quoted(value: object) -> str:
    text = _plain(value)
    return repr(text) if " " in text or not text.isprintable() or not text else text


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return " ".join(f"{key}={_plain(one)}" for key, one in value.items() if one is not None)
    if isinstance(value, list | tuple | set | frozenset):
        return ", ".join(map(_plain, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _escaped(text: str) -> str:
    """*text* with what is no letter of a line (a newline, an escape) as Python writes it."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
