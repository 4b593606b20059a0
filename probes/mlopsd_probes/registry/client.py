"""The daemon's side of a registry's process: started when it is first asked, and anew after it was killed."""

import asyncio
import contextlib
import itertools
import logging
import sys
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any

from mlopsd.log_limit import LogLimiter
from mlopsd.process.child import Child, spawn
from mlopsd.threads import in_thread
from mlopsd_probes.model.cache.files import tidy
from mlopsd_probes.model.frames import BadFrame, read_frame, write_frame
from mlopsd_probes.model.options import RegistryOptions
from mlopsd_probes.registry.environment import client_environment, inherited_credentials

COMMAND = (sys.executable, "-P", "-u", "-m", "mlopsd_probes.registry.child", "{channel}", "{parent}")
START_LIMIT = 60.0  # seconds for Python and MLflow to be imported on a busy machine

Frame = dict[str, Any]


class Unanswered(Exception):
    """There is no answer.

    Attributes:
        kind: as `mlopsd_probes.model.registry.Complaint` has them, and those of a download.
        reason: one sentence without credentials.
    """

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason


class ClientProcess:
    """At most one process, which asks *registry*; *folder* is its own for as long as it runs."""

    def __init__(
        self,
        registry: RegistryOptions,
        folder: Path,
        http_timeout: float,
        *,
        name: str,
        log: logging.Logger,
        printed: LogLimiter,
    ) -> None:
        self._registry = registry
        self._folder = folder
        self._http_timeout = http_timeout
        self._name = name
        self._log = log
        self._printed = printed
        self._numbers = itertools.count(1)
        self._starting: asyncio.Task[Unanswered | None] | None = None
        self._running: _Running | None = None

    @property
    def pid(self) -> int | None:
        """Of the process, once it is ready."""
        return None if self._running is None else self._running.child.pid

    @property
    def is_up(self) -> bool:
        """Whether there is a process, ready or on its way there."""
        return self._running is not None or self._starting is not None

    async def start(self) -> None:
        """Have it ready to be asked; who is cancelled meanwhile leaves it starting.

        Raises:
            Unanswered: it cannot be started.
        """
        if self._running is not None and self._running.hung_up:
            await self.end()
        if self._running is not None:
            return
        if (starting := self._starting) is None:
            starting = self._starting = asyncio.get_running_loop().create_task(
                self._start(), name=f"start the client of {self._registry.label}"
            )
        await asyncio.wait({starting})
        if self._starting is starting:
            self._starting = None
        if starting.cancelled():
            raise Unanswered("client", "its client was ended while it started")
        if (fault := starting.result()) is not None:
            raise fault

    async def ask(self, question: Frame, limit: float) -> Frame:
        """The answer to *question*; a process that has none within *limit* seconds is killed.

        Raises:
            Unanswered: there is none, and why.
        """
        await self.start()
        try:
            return await self._answer(question, limit)
        except Unanswered as error:
            if error.kind == "import_error":  # a new process sees what is installed meanwhile
                await self.end()
            raise

    async def _answer(self, question: Frame, limit: float) -> Frame:
        try:
            async with asyncio.timeout(limit):
                async with contextlib.aclosing(self.follow(question)) as frames:
                    async for frame in frames:
                        if "pulse" not in frame:
                            return frame
        except TimeoutError:
            await self.end()
            raise Unanswered(
                "timeout", f"no answer within {limit:g} s; check that it runs, and the way to it"
            ) from None
        raise AssertionError("frames end with an answer or with Unanswered")

    async def follow(self, question: Frame) -> AsyncGenerator[Frame]:
        """What it says to *question*: any number of pulses and at last the answer; it has been started.

        Raises:
            Unanswered: it says that there is no answer, or ended.
        """
        if self._running is None:  # somebody else lost patience with it meanwhile
            raise Unanswered("client", "its client was ended before it was asked; it is started again")
        with self._running.listening(next(self._numbers)) as (number, said):
            await self._running.send({**question, "number": number})
            while True:
                frame = await said.get()
                if (fault := frame.get("fault")) is not None:
                    raise Unanswered(fault["kind"], fault["reason"])
                yield frame
                if "pulse" not in frame:
                    return

    async def end(self) -> None:
        """Kill it, and remove what it left."""
        if (starting := self._starting) is not None:
            self._starting = None
            starting.cancel()
            await asyncio.wait({starting})
        if (running := self._running) is not None:
            self._running = None
            await running.end()
        await in_thread("remove a client's files", lambda: tidy(self._folder))

    async def _start(self) -> Unanswered | None:
        """What went wrong is a result and not an exception, since nobody may be left to hear of it."""
        try:
            async with asyncio.timeout(START_LIMIT):
                self._running = await self._started()
        except TimeoutError:
            return Unanswered("client", f"its client did not start within {START_LIMIT:g} s")
        except Unanswered as error:
            return error
        except OSError as error:
            return Unanswered(
                "scarce", f"its client cannot be started: {error.strerror or error}; make room for it"
            )
        return None

    async def _started(self) -> "_Running":
        await in_thread(
            "make a client's folder", lambda: self._folder.mkdir(0o700, parents=True, exist_ok=True)
        )
        registry = self._registry
        child = await spawn(
            COMMAND,
            self._name,
            self._log,
            self._printed,
            environment=client_environment(registry, self._folder, self._http_timeout),
            cwd=str(self._folder),
        )
        try:
            await self._open(child)
        except BaseException:
            await child.kill()
            raise
        return _Running(child)

    async def _open(self, child: Child) -> None:
        """Tell *child* which registry it is for, and wait until it is ready."""
        try:
            await write_frame(child.writer, self._opening())
            frame, _ = await read_frame(child.reader)
        except (asyncio.IncompleteReadError, ConnectionError, BadFrame):
            await child.wait(1)
            said = f"its client {child.how_it_ended()} when it was started; see what it printed"
            raise Unanswered(_kind_of_end(child), said) from None
        if (fault := frame.get("fault")) is not None:
            raise Unanswered(fault["kind"], fault["reason"])

    def _opening(self) -> Frame:
        """Secrets go this way, and not by the environment, which others of this user can read."""
        registry = self._registry
        return {
            "uri": registry.uri,
            "username": registry.username,
            "password_file": str(registry.password_file) if registry.password_file else None,
            "token_file": str(registry.token_file) if registry.token_file else None,
            "environment": inherited_credentials(registry),
        }


class _Running:
    """A process that is ready, and who waits for which answer."""

    def __init__(self, child: Child) -> None:
        self.child = child
        self._waiting: dict[int, asyncio.Queue[Frame]] = {}
        self._reading = asyncio.get_running_loop().create_task(self._read(), name=f"answers of {child.pid}")

    @property
    def hung_up(self) -> bool:
        """Whether nothing more comes from it."""
        return self.child.ended or self.child.reader.at_eof()

    @contextlib.contextmanager
    def listening(self, number: int) -> Iterator[tuple[int, asyncio.Queue[Frame]]]:
        """*number* and what is said to the question of that number."""
        said: asyncio.Queue[Frame] = asyncio.Queue()
        self._waiting[number] = said
        try:
            yield number, said
        finally:
            del self._waiting[number]

    async def send(self, question: Frame) -> None:
        try:
            await write_frame(self.child.writer, question)
        except ConnectionError:
            self._tell_end()

    async def end(self) -> None:
        self._reading.cancel()
        await self.child.kill()
        self._tell("client", "its client was ended; it is started again")

    async def _read(self) -> None:
        try:
            while True:
                frame, _ = await read_frame(self.child.reader)
                if (said := self._waiting.get(frame["number"])) is not None:  # else nobody waits any more
                    said.put_nowait(frame)
        except (asyncio.IncompleteReadError, ConnectionError, BadFrame):
            await self.child.wait(1)
            self._tell_end()

    def _tell_end(self) -> None:
        self._tell(_kind_of_end(self.child), f"its client {self.child.how_it_ended()}; it is started again")

    def _tell(self, kind: str, reason: str) -> None:
        fault = {"kind": kind, "reason": reason}
        for said in self._waiting.values():
            said.put_nowait({"fault": fault})


def _kind_of_end(child: Child) -> str:
    return "killed" if child.was_killed else "client"
