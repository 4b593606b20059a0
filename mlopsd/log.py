"""The daemon's log: an event and fields, as JSON lines or as text, written in a thread."""

import logging
import logging.handlers
import queue
import sys
import threading
from collections.abc import Callable
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

from pythonjsonlogger.json import JsonFormatter
from typing_extensions import override

from mlopsd.exceptions import shortened, unformatted
from mlopsd.format import format_time
from mlopsd.journal import is_journal, with_priority

Form = Literal["json", "text", "auto"]
MOST_WAITING = 10_000  # records; a stalled journal loses records, but does not stall the daemon
FLUSH_SECONDS = 0.5
PROBE = ContextVar("PROBE", default="")  # the probe whose code runs, "" for other code
PROBE_LOGGER = "mlopsd.probe."
PLAIN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName", "history"}


class MaskingHandler(logging.StreamHandler[TextIO]):
    """The handler that writes the lines, after *mask* has removed secrets from the whole line."""

    mask: Callable[[str], str] = staticmethod(str)
    for_journal = False  # each line begins with its priority

    def format(self, record: logging.LogRecord) -> str:
        """Return the line with each secret masked, also in tracebacks and fields."""
        text = self.mask(formatted(super().format, record))
        return with_priority(text, record.levelno) if self.for_journal else text


class Drain(threading.Thread):
    """The thread that writes log records, so that a stalled journal does not stall the event loop."""

    def __init__(self, handler: MaskingHandler) -> None:
        super().__init__(name="log", daemon=True)
        self.records: queue.Queue[logging.LogRecord | None] = queue.Queue(MOST_WAITING)
        self.handler = handler
        self.on_loss: Callable[[], None] = lambda: None  # called for each record beyond the limit
        self.lost = 0  # records since the last line about them

    def run(self) -> None:
        """Write records until `end`, and after a loss the number of lost ones."""
        while (record := self.records.get()) is not None:
            self.handler.handle(record)
            if self.lost:
                lost, self.lost = self.lost, 0
                self.handler.handle(_about_loss(lost))

    def begin(self, form: Form, *, debug: bool = False) -> None:
        """Write the records so far and all that follow."""
        self.write_as(form, debug=debug)
        self.start()

    def write_as(self, form: Form, *, debug: bool) -> None:
        """Set the form of the lines; ``auto`` is text in debug mode, on a terminal and in the journal."""
        stream = self.handler.stream
        self.handler.for_journal = is_journal(stream)
        is_read = debug or self.handler.for_journal or stream.isatty()
        text = form == "text" or (form == "auto" and is_read)
        self.handler.setFormatter(Text(with_time=not self.handler.for_journal) if text else Json())

    def end(self) -> None:
        """Write the waiting records, for at most `FLUSH_SECONDS`."""
        if self.ident is None:  # the configuration cannot be read
            self.begin("auto")
        try:
            self.records.put(None, timeout=FLUSH_SECONDS)
        except queue.Full:
            return
        self.join(FLUSH_SECONDS)


class Waiting(logging.handlers.QueueHandler):
    """The handler that passes records to the `Drain` without waiting, and counts lost ones."""

    def __init__(self, drain: Drain) -> None:
        super().__init__(drain.records)
        self._drain = drain

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """Return *record* with the name of its probe. The thread formats its fields."""
        name_probe(record)
        return record

    def enqueue(self, record: logging.LogRecord) -> None:
        """Put *record* into the queue if there is room."""
        try:
            self._drain.records.put_nowait(record)
        except queue.Full:
            self._drain.lost += 1
            self._drain.on_loss()


class ShortTracebacks(logging.Formatter):
    """The form of a traceback: whole lines, and no megabytes."""

    def formatException(self, ei: Any) -> str:  # noqa: N802  # logging's name
        """Return the traceback of *ei*, shortened."""
        return shortened(super().formatException(ei))


class Text(ShortTracebacks):
    """One line for a person: time, level, event, fields. The journal has the time already."""

    def __init__(self, *, with_time: bool = True) -> None:
        super().__init__()
        self._with_time = with_time

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, with an indented traceback below. Foreign text cannot start a line."""
        fields = _fields(record)
        traceback = str(fields.pop("traceback", ""))  # as a probe's own process sends it
        if record.exc_info:
            traceback = self.formatException(record.exc_info)
        pairs = " ".join(f"{name}={_quoted(value)}" for name, value in fields.items() if value != [])
        time = f"{_local_time(record)} " if self._with_time else ""
        line = f"{time}{record.levelname:7} {_escaped(record.getMessage())}  {pairs}".rstrip()
        return "\n".join([line, *(f"    {_escaped(below)}" for below in traceback.splitlines())])


class Json(ShortTracebacks, JsonFormatter):
    """One JSON object per line, in UTF-8: ``time``, ``level``, ``logger``, ``event`` and the fields."""

    def __init__(self) -> None:
        super().__init__(json_ensure_ascii=False)

    @override
    def add_fields(
        self,
        log_data: dict[str, Any],
        record: logging.LogRecord,
        message_dict: dict[str, Any],
    ) -> None:
        """Add the common fields under mlopsd's names, then the record's own. A taken name gets a ``_``."""
        log_data["time"] = format_time(datetime.fromtimestamp(record.created, UTC))
        log_data["level"] = record.levelname.lower()
        log_data["logger"] = record.name
        log_data["event"] = record.getMessage()
        common = frozenset(log_data)
        log_data.update(
            (f"{name}_" if name in common else name, own) for name, own in _fields(record).items()
        )
        if record.exc_info:
            log_data["traceback"] = self.formatException(record.exc_info)


def start(
    level: str,
    form: Form,
    *,
    debug: bool = False,
    stream: TextIO | None = None,
) -> Drain:
    """Start to log to *stream*, by default standard error.

    *form* is ``text``, ``json``, or ``auto``: text in debug mode, on a terminal and in the journal.
    """
    drain = hold(stream)
    drain.begin(form, debug=debug)
    set_level(level)
    return drain


def hold(stream: TextIO | None = None) -> Drain:
    """Start a log that keeps its records until `Drain.begin`, when the configuration is known."""
    drain = Drain(MaskingHandler(sys.stderr if stream is None else stream))
    logging.getLogger().handlers = [Waiting(drain)]
    set_level("INFO")
    return drain


def set_level(level: str) -> None:
    """Log *level* and above, and of libraries WARNING and above at most.

    The history gets its records of the level INFO at any level of the log.
    """
    root, own = logging.getLogger(), logging.getLogger("mlopsd")
    root.setLevel(logging.WARNING)
    own.setLevel(level)
    own.setLevel(min(own.level, logging.INFO))
    for handler in root.handlers:
        if isinstance(handler, Waiting):
            handler.setLevel(level)


def _about_loss(count: int) -> logging.LogRecord:
    fields = {"name": "mlopsd.log", "levelno": logging.WARNING, "levelname": "WARNING"}
    return logging.makeLogRecord({**fields, "msg": "log lines lost", "count": count})


def _local_time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).astimezone().strftime("%H:%M:%S.%f")[:-3]


def formatted(form: Callable[[logging.LogRecord], str], record: logging.LogRecord) -> str:
    """Return *record* by *form*, or a line about it if third-party code logs what cannot be formatted."""
    try:
        return form(record)
    except Exception as error:  # noqa: BLE001  # the boundary to third-party code
        return form(unformatted(record, error))


def name_probe(record: logging.LogRecord) -> None:
    """Add the field ``probe`` to *record* if a probe logs it. Its own logger always names it."""
    if (record.name.startswith(PROBE_LOGGER) or not hasattr(record, "probe")) and (
        probe := _probe_of(record)
    ):
        record.probe = probe


def _probe_of(record: logging.LogRecord) -> str:
    """Return the probe that logs *record*: by its own logger, or by the code that runs."""
    if record.name.startswith(PROBE_LOGGER):
        return record.name.removeprefix(PROBE_LOGGER).partition(".")[0]
    return PROBE.get()


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in record.__dict__.items() if name not in PLAIN}


def _quoted(value: object) -> str:
    text = _plain(value)
    return repr(text) if " " in text or not text.isprintable() or not text else text


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return " ".join(f"{key}={_plain(item)}" for key, item in value.items() if item is not None)
    if isinstance(value, list | tuple | set | frozenset):
        return ", ".join(map(_plain, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _escaped(text: str) -> str:
    """Return *text* with control characters (newlines, escapes) as ``repr`` writes them."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
