"""The process of one probe: ``python -m mlopsd.worker.child FD PARENT``, a request and an answer at a time.

Everything that a probe can do to a process (hang in a driver, hold the GIL, crash) it does here.
"""

import ctypes
import inspect
import logging
import os
import resource
import signal
import socket
import sys
import traceback
from collections.abc import Mapping
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

from mlopsd.exceptions import safe_message
from mlopsd.probe import Context, Probe, ReloadRefused
from mlopsd.process import procfs
from mlopsd.process.reaper import Reaper, adopt_orphans
from mlopsd.worker import frames
from mlopsd.worker.codec import Outgoing
from mlopsd.worker.outbox import Outbox
from mlopsd.worker.validate import verified

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Answer until the daemon hangs up."""
    descriptor, parent = int(sys.argv[1]), int(sys.argv[2])
    _settle_in(parent)
    with socket.socket(fileno=descriptor) as channel:
        opening = _receive(channel)
        if opening is None:
            return
        ledger = Outbox()
        host = ProbeRunner(opening, ledger)
        channel.sendall(frames.READY)
        while (request := _receive(channel)) is not None:
            channel.sendall(_encoded(host.answer(request) | ledger.taken()))


def _settle_in(parent: int) -> None:
    """Die with the daemon, before it in want of memory, and without a dump; adopt what the probe leaks."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    adopt_orphans()
    if os.getppid() != parent:  # it died before the line above
        sys.exit(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C on a terminal is the daemon's to handle
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        Path("/proc/self/oom_score_adj").write_text("500", "ascii")
    except OSError:  # a sandbox may forbid it; the order of dying is a courtesy
        return


def _receive(channel: socket.socket) -> dict[str, Any] | None:
    head = _receive_exactly(channel, frames.LENGTH.size)
    if head is None:
        return None
    body = _receive_exactly(channel, frames.length(head))
    return None if body is None else frames.decode(body, with_times=True)


def _receive_exactly(channel: socket.socket, size: int) -> bytes | None:
    parts = bytearray()
    while len(parts) < size:
        part = channel.recv(size - len(parts))
        if not part:
            return None
        parts += part
    return bytes(parts)


def _encoded(answer: Mapping[str, Any]) -> bytes:
    try:
        return frames.encode(answer)
    except frames.BadFrame as error:
        kept = {key: answer[key] for key in ("id", "children")}
        return frames.encode(kept | {"error": {"kind": "nonsense", "text": str(error)}})


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
        """What became of *request*, under its id; an error is a result too."""
        self._log.setLevel(request["log_level"])
        result = self._result(request)
        self._reaper.reap()
        return {**result, "id": request["id"], "children": _children()}

    def _result(self, request: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return self._do(request)
        except ReloadRefused as refusal:
            return _error("refused", refusal)
        except BaseException as error:  # noqa: BLE001  # the boundary to a stranger's code
            return _error("raised", error)

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
        made: Probe[Any] = probe(probe.Options(**opening["table"]), context)
        return made


def _logger(opening: Mapping[str, Any], ledger: Outbox) -> logging.Logger:
    log = logging.getLogger(f"mlopsd.probe.{opening['name']}")
    log.setLevel(opening["log_level"])
    log.addHandler(ledger)
    return log


async def _await(result: Any) -> Any:
    return await result


def _error(kind: str, error: BaseException) -> dict[str, Any]:
    return {
        "error": {
            "kind": kind,
            "type": type(error).__name__,
            "text": safe_message(error)[:2000],
            "traceback": "".join(traceback.format_exception(error))[-8000:],
        }
    }


def _children() -> int:
    """How many processes the probe has running; what has ended holds nothing but its pid."""
    return sum(child.state != "Z" for child in procfs.of_main_thread())


if __name__ == "__main__":
    main()
