"""The process of one probe: ``python -m mlopsd.worker.child FD PARENT``, with one request at a time.

A probe that hangs in a driver, holds the GIL or crashes harms only this process.
"""

import inspect
import logging
import socket
import traceback
from collections.abc import Mapping, Sequence
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

from mlopsd.code_version import CodeChange, CodeVersion
from mlopsd.exceptions import author_frames, safe_message, shortened, unformatted
from mlopsd.probe import (
    Advice,
    Context,
    Finding,
    Metric,
    Number,
    Probe,
    Reading,
    ReloadRefused,
    Status,
    make_probe,
)
from mlopsd.process import procfs
from mlopsd.process.frames import BadFrame, receive, send
from mlopsd.process.reaper import Reaper
from mlopsd.process.setup import open_channel
from mlopsd.worker.codec import LIMITS, Outgoing, decode_options, kind_of
from mlopsd.worker.validate import answered, distinct, verified

MOST_LOG_RECORDS = 100  # in one answer; further records are only counted
MOST_OBSERVATIONS = 10_000
NO_FIELDS = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime"}


class Outbox(logging.Handler):
    """The handler of the probe's logger, and the source of its counters and histograms."""

    def __init__(self) -> None:
        super().__init__()
        self._records: list[list[Any]] = []
        self._counts: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
        self._observations: list[list[Any]] = []
        self._dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Store *record* as its logger, level, event and fields."""
        if len(self._records) >= MOST_LOG_RECORDS:
            self._dropped += 1
            return
        try:
            self._records.append(_encoded(record))
        except Exception as error:  # noqa: BLE001  # third-party code may log what cannot be formatted
            self._records.append(_encoded(unformatted(record, error)))

    def counter(self, metric: Metric) -> "OutboxCounter":
        """Return a counter whose increments go to the daemon with the next answer."""
        return OutboxCounter(self, metric)

    def histogram(self, metric: Metric) -> "OutboxHistogram":
        """Return a histogram whose observations go to the daemon with the next answer."""
        return OutboxHistogram(self, metric)

    def count(self, name: str, labels: tuple[tuple[str, str], ...], amount: Number) -> None:
        """Add *amount* to the stored count."""
        self._counts[name, labels] = self._counts.get((name, labels), 0) + amount

    def observe(
        self, name: str, labels: tuple[tuple[str, str], ...], value: Number | tuple[list[int], Number]
    ) -> None:
        """Store a value, or counts and their sum, unless the limit of one answer is reached."""
        if len(self._observations) < MOST_OBSERVATIONS:
            self._observations.append([name, labels, value])
        else:
            self._dropped += 1

    def drain(self) -> dict[str, Any]:
        """Return everything that was stored, and clear the store."""
        stored = {
            "log": self._records,
            "counts": [[name, labels, amount] for (name, labels), amount in self._counts.items()],
            "observations": self._observations,
            "dropped": self._dropped,
        }
        self._records, self._counts, self._observations, self._dropped = [], {}, [], 0
        return stored


class OutboxCounter:
    """A counter of the outbox."""

    def __init__(self, outbox: Outbox, metric: Metric) -> None:
        self._outbox = outbox
        self._metric = metric

    def inc(self, amount: Number = 1, **labels: object) -> None:
        """Add *amount*."""
        self._outbox.count(self._metric.name, self._metric.label_values(labels), amount)


class OutboxHistogram:
    """A histogram of the outbox."""

    def __init__(self, outbox: Outbox, metric: Metric) -> None:
        self._outbox = outbox
        self._metric = metric

    def observe(self, value: Number, **labels: object) -> None:
        """Count *value*."""
        self._outbox.observe(self._metric.name, self._metric.label_values(labels), value)

    def observe_counts(self, counts: Sequence[int], total: Number, **labels: object) -> None:
        """Add observations that were counted elsewhere."""
        self._outbox.observe(self._metric.name, self._metric.label_values(labels), (list(counts), total))


def _encoded(record: logging.LogRecord) -> list[Any]:
    """Return *record* as its logger, level, event and fields; a value that is not plain as its repr."""
    fields = {
        name: value if isinstance(value, str | int | float | bool | None) else repr(value)
        for name, value in record.__dict__.items()
        if name not in NO_FIELDS
    }
    if record.exc_info:
        fields["traceback"] = shortened("".join(traceback.format_exception(*record.exc_info)))
    return [record.name, record.levelno, record.getMessage()[:2000], fields]


def main() -> None:
    """Answer requests until the daemon closes the channel."""
    with open_channel() as channel, channel.makefile("rb") as incoming:
        if (opening := receive(incoming)) is None:
            return
        outbox = Outbox()
        runner = ProbeRunner(opening, outbox)
        send(channel, {"ready": True})  # the probe has been made, or its failure is stored
        while (request := receive(incoming)) is not None:
            _answer(channel, runner.answer(request) | outbox.drain())


def _answer(channel: socket.socket, answer: Mapping[str, Any]) -> None:
    try:
        send(channel, answer, LIMITS)
    except BadFrame as error:
        kept = {key: answer[key] for key in ("id", "children")}
        send(channel, kept | {"error": {"kind": "invalid_reading", "text": str(error)}})


class ProbeRunner:
    """The probe in its process, with its calls and their results as answers."""

    def __init__(self, opening: Mapping[str, Any], outbox: Outbox) -> None:
        self._opening = opening
        self._log = _logger(opening, outbox)
        self._outbox = outbox
        self._outgoing = Outgoing()
        self._reaper = Reaper()
        self._runner: Any = None  # an asyncio.Runner, for a probe whose check is a coroutine
        self._probe: Probe[Any] | None = None
        self._fault: BaseException | None = None
        if self._code_change() is not None:
            return
        try:  # now, so that the first request need not wait for imports
            self._probe = self._make()
        except BaseException as error:  # noqa: BLE001  # the boundary to third-party code
            self._fault = error

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return the result of *request* with its id. An exception becomes a result too."""
        self._log.setLevel(request["log_level"])
        result = self._result(request)
        self._reaper.reap()
        return {**result, "id": request["id"], "children": _children()}

    def _result(self, request: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return self._do(request)
        except BaseException as error:  # noqa: BLE001  # the boundary to third-party code
            return _error(error, whole=self._log.isEnabledFor(logging.DEBUG))

    def _do(self, request: Mapping[str, Any]) -> dict[str, Any]:
        if self._probe is None and (change := self._code_change()) is not None:
            return self._refuse(change, request)
        if self._fault is not None:
            fault, self._fault = self._fault, None
            raise fault
        if request["do"] == "close" and self._probe is None:
            return {}
        probe = self._probe = self._probe or self._make()
        if request["do"] == "check":
            reading = distinct(verified(self._call(probe.check())))
            return {"reading": self._outgoing.frame(reading, request["layout"])}
        if request["do"] == "reload":
            result = self._call(probe.reload(dry_run=request["dry_run"], force=request["force"]))
            return {"summary": answered(result)}
        self._call(probe.close())
        return {}

    def _code_change(self) -> CodeChange | None:
        """Return how the installed code differs from the daemon's, which declared the options and metrics."""
        versions = (CodeVersion(**code) for code in self._opening.get("code", ()))
        return next((change for version in versions if (change := version.change())), None)

    def _refuse(self, change: CodeChange, request: Mapping[str, Any]) -> dict[str, Any]:
        """Answer *request* without the probe, since it would mix two versions."""
        if request["do"] == "reload":
            raise ReloadRefused(change.sentence)
        if request["do"] != "check":
            return {}
        advice = Advice.RESTART_APP if change.restart_helps else Advice.FIX_CONFIG
        finding = Finding("code_version", Status.UNKNOWN, change.sentence, advice=advice)
        return {"reading": self._outgoing.frame(Reading([finding]), request["layout"])}

    def _call(self, result: Any) -> Any:
        if not inspect.isawaitable(result):
            return result
        if self._runner is None:
            import asyncio  # noqa: PLC0415  # asyncio takes 10 MiB, which a plain check function does not need

            self._runner = asyncio.Runner()
        return self._runner.run(_await(result))

    def _make(self) -> Probe[Any]:
        opening = self._opening
        probe = EntryPoint("probe", opening["target"], "mlopsd.probes").load()
        context = Context(
            opening["name"],
            Path(opening["state_dir"]),
            self._log,
            {},
            self._outbox,
            opening["timeout"],
        )
        options = probe.Options(**decode_options(opening["table"]))
        if not inspect.iscoroutinefunction(probe.check):
            made: Probe[Any] = make_probe(probe, options, context)
            return made

        async def make() -> Probe[Any]:  # as in the daemon, a loop runs while a coroutine's probe is made
            made: Probe[Any] = make_probe(probe, options, context)
            return made

        return self._call(make())  # type: ignore[no-any-return]


def _logger(opening: Mapping[str, Any], outbox: Outbox) -> logging.Logger:
    log = logging.getLogger(f"mlopsd.probe.{opening['name']}")
    log.setLevel(opening["log_level"])
    logging.getLogger().addHandler(outbox)  # libraries keep their levels too, from WARNING as in the daemon
    return log


async def _await(result: Any) -> Any:
    return await result


def _error(error: BaseException, *, whole: bool) -> dict[str, Any]:
    """Return *error* as an answer. Unless *whole*, mlopsd's frames before the author's are dropped."""
    frames = error.__traceback__ if whole else author_frames(error)
    return {
        "error": {
            "kind": kind_of(error),
            "type": type(error).__name__,
            "text": safe_message(error),
            "traceback": shortened("".join(traceback.format_exception(type(error), error, frames))),
        }
    }


def _children() -> int:
    """Return the number of the probe's running child processes, without zombies."""
    return sum(child.state != "Z" for child in procfs.of_main_thread())


if __name__ == "__main__":
    main()
