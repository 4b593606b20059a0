"""The worker in a child process: a hang, a crash or a busy loop there costs only one reading."""

import asyncio
import contextlib
import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mlopsd.code_version import CodeVersion
from mlopsd.log_limit import LogLimiter
from mlopsd.predictor import PredictorOptions
from mlopsd.probe import Instruments, Metric, ProbeError, Reading
from mlopsd.process.backoff import LONGEST, ExponentialBackoff
from mlopsd.process.channel import ChannelClosed, RequestChannel
from mlopsd.process.child import CHANNEL, LINES_PER_HOUR, PARENT, PATIENCE, Child, spawn
from mlopsd.process.frames import BadFrame, Header, pack
from mlopsd.worker.codec import LIMITS, OURS, Incoming, encode_options
from mlopsd.worker.validate import answered, verified
from mlopsd.worker.worker import CLOSING_SECONDS, UNKILLABLE, InvalidReading, ProbeRaised, WorkerDied

COMMAND = (sys.executable, "-P", "-u", "-m", "mlopsd.worker.child", CHANNEL, PARENT)
START_SECONDS = (
    30.0  # for the interpreter and the probe's imports on a busy host; a check has its own timeout
)
MOST_CHILDREN = 32  # child processes of a probe; more are a leak, and its process is restarted


@dataclass(frozen=True, slots=True)
class InitMessage:
    """The first frame to a process: the probe that it makes.

    Attributes:
        name: The probe's name.
        target: ``package.module:Class``.
        table: The probe's own keys as written. Secrets travel in this frame, never in arguments.
        state_dir: The probe's own folder.
        log_level: The level of the probe's logger.
        timeout: The seconds that one check may take.
        longest_pause: The longest pause in seconds before the restart of a process that keeps dying.
        code: The versions of the code in the daemon. The process refuses to run another one.
    """

    name: str
    target: str
    table: Mapping[str, Any]
    state_dir: Path
    log_level: int
    timeout: float
    longest_pause: float = LONGEST
    code: tuple[CodeVersion, ...] = ()

    def header(self) -> Header:
        """Return it as JSON.

        Raises:
            BadFrame: JSON cannot represent one of the keys.
        """
        return asdict(self) | {"table": encode_options(self.table), "state_dir": str(self.state_dir)}


async def _spawn(opening: InitMessage, log: logging.Logger, printed: LogLimiter) -> "ProbeProcess":
    """Start a process for the probe of *opening*; the lines that it prints go to *log*.

    Raises:
        BadFrame: *opening* cannot be sent.
        OSError: The process cannot be started.
    """
    first = pack(opening.header(), limits=LIMITS)  # before there is anything to undo
    started = await spawn(COMMAND, opening.name, log, printed)
    started.writer.write(first)
    return ProbeProcess(started)


class ProbeProcess:
    """A running process of a probe, with one request at a time.

    Attributes:
        child: The process.
    """

    def __init__(self, started: Child) -> None:
        self.child = started
        self._channel = RequestChannel(started, LIMITS)
        self._is_ready = False
        self._start_deadline = asyncio.get_running_loop().time() + START_SECONDS

    @property
    def is_starting(self) -> bool:
        """Return whether it is still making its probe, within `START_SECONDS`."""
        return not self._is_ready and asyncio.get_running_loop().time() < self._start_deadline

    async def ask(self, request: Header) -> dict[str, Any]:
        """Return the answer to *request*, which is sent as soon as the process has started.

        After an exception, send no other request unless it `is_starting`: it may still be busy.

        Raises:
            WorkerDied: The process ended instead of answering.
            BadFrame: The answer is invalid, or belongs to another request.
        """
        try:
            if not self._is_ready:
                await self._channel.notice()
                self._is_ready = True
            return (await self._channel.ask(request))[0]
        except ChannelClosed as error:
            await self.child.wait(PATIENCE)
            raise WorkerDied(f"its process {self.child.how_it_ended()}") from error


class ProcessWorker:
    """The worker of a probe in a child process: started on demand, and ended after a timeout."""

    loop_use = None
    predictor = None
    routes = ()

    def __init__(
        self,
        opening: InitMessage,
        declared: Sequence[Metric],
        instruments: Instruments,
        on_restart: Callable[[], None],
        log: logging.Logger,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._opening = opening
        self._declared = {metric.name: metric for metric in declared}
        self._instruments = instruments
        self._on_restart = on_restart
        self._log = log
        self._probe_log = logging.getLogger(f"mlopsd.probe.{opening.name}")
        self._backoff = ExponentialBackoff(clock, opening.longest_pause)
        self._printed = LogLimiter(most=LINES_PER_HOUR)
        self._incoming = Incoming()
        self._starting: asyncio.Task[ProbeProcess] | None = None
        self._dying: Child | None = None
        self._ending: asyncio.Task[None] | None = None
        self._last_end = ""  # how it died last
        self._starts = 0

    @property
    def stuck(self) -> str | None:
        """Return why no call can start: a killed process hangs in the kernel. Otherwise return None."""
        if self._dying is None or self._dying.ended:
            return None
        if self._ending is not None and not self._ending.done():
            return (
                f"its process {self._dying.pid} gave no answer and is being ended; try again in some seconds"
            )
        killed = f"its process {self._dying.pid} was killed and does not end"
        return f"{killed}; it is {UNKILLABLE}"

    @property
    def pause(self) -> float:
        """Return the seconds until a process may be started again, 0 if it may now."""
        return self._backoff.left()

    def prepare(self) -> None:
        """Start the process, which makes its probe at once."""
        if self._starting is None:
            self._starting = self._start()

    async def check(self) -> Reading:
        """Return a reading from the process.

        If the caller is cancelled, end the process in the background, unless it is still starting.

        Raises:
            WorkerDied: The process ended instead of answering.
            ProbeRaised: The probe raised an exception.
            ProbeError: The probe raised it, or the process died before and waits for its next start.
            InvalidReading: The answer is not a valid reading.
        """
        answer = await self._ask({"do": "check", "layout": self._incoming.known})
        try:
            return verified(
                self._incoming.reading(answer["reading"])
            )  # a probe's code may write to the channel too
        except (KeyError, BadFrame) as error:
            raise InvalidReading(f"its process sent an invalid answer: {error}") from error

    async def reload(self, *, dry_run: bool, force: bool) -> str:
        """Reload the probe in its process and return its sentence."""
        answer = await self._ask({"do": "reload", "dry_run": dry_run, "force": force})
        return answered(answer.get("summary"))  # a probe's code may write to the channel too

    async def reconfigure(self, _options: PredictorOptions) -> bool:
        """Return False: a predictor runs on the loop."""
        return False

    async def close(self) -> None:
        """Close the probe, then end its process in any case."""
        if self._ending is not None:
            self._ending.cancel()
        answer: Mapping[str, Any] = {}
        if (child := await self._started()) is not None:
            with contextlib.suppress(TimeoutError, WorkerDied, BadFrame):
                answer = await asyncio.wait_for(child.ask(self._in_full({"do": "close"})), CLOSING_SECONDS)
            await child.child.kill()
        if self._dying is not None:
            await self._dying.kill()
        if "error" in answer:
            raise _failure(answer["error"])

    async def _started(self) -> ProbeProcess | None:
        """Return the process that runs or starts, or None."""
        if self._starting is None:
            return None
        try:
            return await self._starting
        except (OSError, BadFrame):  # there is no process; a check reports that, or nobody needs it
            return None

    async def _ask(self, request: Header) -> dict[str, Any]:
        child = await self._running()
        try:
            answer = await child.ask(self._in_full(request))
        except BaseException as error:  # also when cancelled: a late answer would belong to this request
            if isinstance(error, asyncio.CancelledError) and child.is_starting:
                raise  # on a busy host a slow start must not be killed and repeated
            self._discard(child)
            self._last_end = f" (last: {error})" if isinstance(error, WorkerDied) else ""
            if isinstance(error, BadFrame):
                raise InvalidReading(f"its process sent an invalid answer: {error}") from error
            raise
        try:
            self._pass_on(answer)
            failure = _failure(answer["error"]) if "error" in answer else None
            leaks = answer.get("children", 0) > MOST_CHILDREN
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            self._discard(child)
            raise InvalidReading(
                f"its process sent an invalid answer: {type(error).__name__}: {error}"
            ) from error
        self._backoff.forget()
        if leaks:
            self._discard(child)
            raise _leak(answer["children"], failure) from failure
        if failure is not None:
            raise failure
        return answer

    def _in_full(self, request: Header) -> Header:
        """Return *request* with the log level, which a reload may have changed."""
        return {**request, "log_level": self._probe_log.getEffectiveLevel()}

    def _pass_on(self, answer: Mapping[str, Any]) -> None:
        """Pass on the log records, counts and observations."""
        for record in answer.get("log", ()):
            self._log_record(*record)
        for metric, labels, amount in answer.get("counts", ()):
            self._instruments.counter(self._declared[metric]).inc(amount, **dict(labels))
        for metric, labels, value in answer.get("observations", ()):
            histogram = self._instruments.histogram(self._declared[metric])
            if isinstance(value, list):
                histogram.observe_counts(*value, **dict(labels))
            else:
                histogram.observe(value, **dict(labels))

    def _log_record(self, logger: str, level: int, event: str, fields: Mapping[str, Any]) -> None:
        """Log a record of the process with the level and the name of its own logger."""
        if _is_of(logger, self._probe_log) and not self._probe_log.isEnabledFor(level):
            return  # the level was changed meanwhile
        own = {"name": logger, "levelno": level, "levelname": logging.getLevelName(level)}
        text = {"msg": "%s", "args": (event,), "probe": self._opening.name}
        self._probe_log.handle(logging.makeLogRecord({**fields, **own, **text}))

    async def _running(self) -> ProbeProcess:
        """Return the process, started if necessary. The start continues if the caller is cancelled.

        Raises:
            ProbeError: The process cannot be started, or not yet.
        """
        if self._starting is None:
            if self.pause > 0:
                dead = f"its process died {self._backoff.failures} times in a row{self._last_end}"
                raise ProbeError(f"{dead}; next start in {self.pause:.0f} s")
            self._starting = self._start()
        try:
            return await asyncio.shield(self._starting)
        except Exception as error:  # a failed start becomes a reading and is retried
            self._starting = None
            self._backoff.failed()
            raise ProbeError(f"cannot start its process: {_why_not(error)}") from error

    def _start(self) -> asyncio.Task[ProbeProcess]:
        if self._starts:
            self._on_restart()
        self._starts += 1
        self._incoming = Incoming()
        starting = _spawn(self._opening, self._log, self._printed)
        return asyncio.get_running_loop().create_task(starting, name=f"start {self._opening.name}")

    def _discard(self, child: ProbeProcess) -> None:
        """Remove *child*, end it in the background, and delay the next start."""
        self._starting, self._dying = None, child.child
        self._backoff.failed()
        self._ending = asyncio.get_running_loop().create_task(
            self._dying.end(), name=f"end {self._dying.pid}"
        )


def _is_of(logger: str, parent: logging.Logger) -> bool:
    return f"{logger}.".startswith(f"{parent.name}.")


def _failure(error: Mapping[str, Any]) -> Exception:
    """Return the exception that the probe raised in its process, to be raised here."""
    if error["kind"] == "raised":
        return ProbeRaised(error["type"], error["text"], error["traceback"])
    return OURS[error["kind"]](error["text"])


def _leak(left: int, failure: Exception | None) -> ProbeError:
    also = "" if failure is None else f" and failed ({failure})"
    return ProbeError(f"it left {left} processes behind{also}; its process was restarted")


def _why_not(error: Exception) -> str:
    """Return why a process could not be started, and the fix."""
    if isinstance(error, BadFrame):
        return f'its options cannot be sent to it: {error}; use plain values, or isolation = "thread"'
    if isinstance(error, PermissionError | FileNotFoundError):
        return f"{error.strerror}; repair {sys.executable}"
    if isinstance(error, OSError):  # no descriptors, no memory, too many processes
        return f"{error.strerror}; free that resource on the host"
    return f"{type(error).__name__}: {error}"
