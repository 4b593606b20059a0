"""The process of one probe: ``python -m mlopsd.worker.child FD PARENT``, a request and an answer at a time.

Everything that a probe can do to a process (hang in a driver, hold the GIL, crash) it does here.
"""

import inspect
import logging
import socket
import traceback
from collections.abc import Mapping
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

from mlopsd.exceptions import safe_message
from mlopsd.probe import Context, Probe
from mlopsd.process import procfs
from mlopsd.process.frames import BadFrame, receive, send
from mlopsd.process.reaper import Reaper
from mlopsd.process.setup import open_channel
from mlopsd.worker.codec import LIMITS, Outgoing, decode_options, kind_of
from mlopsd.worker.outbox import Outbox
from mlopsd.worker.validate import verified


def main() -> None:
    """Answer until the daemon hangs up."""
    with open_channel() as channel, channel.makefile("rb") as incoming:
        if (opening := receive(incoming)) is None:
            return
        outbox = Outbox()
        runner = ProbeRunner(opening, outbox)
        send(channel, {"ready": True})  # the probe has been made, or cannot be
        while (request := receive(incoming)) is not None:
            _answer(channel, runner.answer(request) | outbox.taken())


def _answer(channel: socket.socket, answer: Mapping[str, Any]) -> None:
    try:
        send(channel, answer, LIMITS)
    except BadFrame as error:
        kept = {key: answer[key] for key in ("id", "children")}
        send(channel, kept | {"error": {"kind": "invalid_reading", "text": str(error)}})


class ProbeRunner:
    """Makes the probe, calls it, and turns whatever comes of it into an answer."""

    def __init__(self, opening: Mapping[str, Any], ledger: Outbox) -> None:
        self._opening = opening
        self._log = _logger(opening, ledger)
        self._ledger = ledger
        self._outgoing = Outgoing()
        self._reaper = Reaper()
        self._runner: Any = None  # an asyncio.Runner, for a probe whose check is a coroutine
        self._probe: Probe[Any] | None = None
        self._fault: BaseException | None = None
        try:  # before the first request, which then need not wait for imports
            self._probe = self._make()
        except BaseException as error:  # noqa: BLE001  # the boundary to a stranger's code
            self._fault = error

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return the result of *request* under its id; an error is a result too."""
        self._log.setLevel(request["log_level"])
        result = self._result(request)
        self._reaper.reap()
        return {**result, "id": request["id"], "children": _children()}

    def _result(self, request: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return self._do(request)
        except BaseException as error:  # noqa: BLE001  # the boundary to a stranger's code
            return _error(error)

    def _do(self, request: Mapping[str, Any]) -> dict[str, Any]:
        if self._fault is not None:
            fault, self._fault = self._fault, None
            raise fault
        probe = self._probe = self._probe or self._make()
        if request["do"] == "check":
            reading = verified(self._call(probe.check()))
            return {"reading": self._outgoing.frame(reading, request["layout"])}
        if request["do"] == "reload":
            return {"said": str(self._call(probe.reload(dry_run=request["dry_run"], force=request["force"])))}
        self._call(probe.close())
        return {}

    def _call(self, result: Any) -> Any:
        if not inspect.isawaitable(result):
            return result
        if self._runner is None:
            import asyncio  # noqa: PLC0415  # 10 MiB that a plain function's process does not carry

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
            self._ledger,
            opening["timeout"],
        )
        made: Probe[Any] = probe(probe.Options(**decode_options(opening["table"])), context)
        return made


def _logger(opening: Mapping[str, Any], ledger: Outbox) -> logging.Logger:
    log = logging.getLogger(f"mlopsd.probe.{opening['name']}")
    log.setLevel(opening["log_level"])
    log.addHandler(ledger)
    return log


async def _await(result: Any) -> Any:
    return await result


def _error(error: BaseException) -> dict[str, Any]:
    return {
        "error": {
            "kind": kind_of(error),
            "type": type(error).__name__,
            "text": safe_message(error)[:2000],
            "traceback": "".join(traceback.format_exception(error))[-8000:],
        }
    }


def _children() -> int:
    """Count the processes that the probe has running; one that has ended holds nothing but its pid."""
    return sum(child.state != "Z" for child in procfs.of_main_thread())


if __name__ == "__main__":
    main()
