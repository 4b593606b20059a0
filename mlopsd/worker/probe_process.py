"""One running process of a probe: its first message, its requests and its end."""

import asyncio
import logging
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mlopsd.log_limit import LogLimiter
from mlopsd.process import child
from mlopsd.process.backoff import LONGEST
from mlopsd.process.channel import ChannelClosed, RequestChannel
from mlopsd.process.frames import Header, pack
from mlopsd.worker.codec import LIMITS, encode_options
from mlopsd.worker.worker import WorkerDied

COMMAND = (sys.executable, "-P", "-u", "-m", "mlopsd.worker.child", child.CHANNEL, child.PARENT)
START_SECONDS = 30.0  # for an interpreter and what a probe imports, on a busy host; a check has its own time


@dataclass(frozen=True, slots=True)
class InitMessage:
    """The first frame to a process: which probe it is to be.

    Attributes:
        target: ``package.module:Class``.
        table: the probe's own keys as they were written; secrets go by this frame, never by arguments.
        timeout: seconds that one check may take.
        longest_pause: seconds before a process that died again and again is started once more.
    """

    name: str
    target: str
    table: Mapping[str, Any]
    state_dir: Path
    log_level: int
    timeout: float
    longest_pause: float = LONGEST

    def header(self) -> Header:
        """Return it as JSON.

        Raises:
            BadFrame: JSON has no form for one of the keys.
        """
        return asdict(self) | {"table": encode_options(self.table), "state_dir": str(self.state_dir)}


async def spawn(opening: InitMessage, log: logging.Logger, printed: LogLimiter) -> "ProbeProcess":
    """Start a process for the probe of *opening*; the lines that it prints go to *log*.

    Raises:
        BadFrame: *opening* cannot be sent to it.
        OSError: it cannot be started.
    """
    first = pack(opening.header(), limits=LIMITS)  # before there is anything to undo
    started = await child.spawn(COMMAND, opening.name, log, printed)
    started.writer.write(first)
    return ProbeProcess(started)


class ProbeProcess:
    """A running process of a probe, asked one thing at a time.

    Attributes:
        child: the process.
    """

    def __init__(self, started: child.Child) -> None:
        self.child = started
        self._channel = RequestChannel(started, LIMITS)
        self._is_ready = False
        self._given_up_at = asyncio.get_running_loop().time() + START_SECONDS

    @property
    def is_starting(self) -> bool:
        """True while its probe has not been made and nothing was asked, within `START_SECONDS`."""
        return not self._is_ready and asyncio.get_running_loop().time() < self._given_up_at

    async def ask(self, request: Header) -> dict[str, Any]:
        """Return its answer to *request*, which is sent as soon as it has started.

        After an exception it must not be asked again unless it `is_starting`: it may still be at work.

        Raises:
            WorkerDied: it ended instead of answering.
            BadFrame: its answer is none of ours, or to another request.
        """
        try:
            if not self._is_ready:
                await self._channel.notice()
                self._is_ready = True
            return (await self._channel.ask(request))[0]
        except ChannelClosed as error:
            await self.child.wait(child.PATIENCE)
            raise WorkerDied(f"its process {self.child.how_it_ended()}") from error
