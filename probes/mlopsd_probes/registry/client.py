"""The daemon's side of a registry's process, started by the first request and by the first after its end."""

import asyncio
import sys
from pathlib import Path
from typing import Any

from mlopsd.file_tree import remove_tree
from mlopsd.log_limit import LogLimiter
from mlopsd.process.channel import ChannelClosed, OnPart, RequestChannel
from mlopsd.process.child import CHANNEL, PARENT, Child, Log, spawn
from mlopsd.process.frames import BadFrame
from mlopsd.threads import in_thread
from mlopsd_probes.registry.environment import client_environment, inherited_credentials
from mlopsd_probes.registry.options import RegistryOptions

COMMAND = (sys.executable, "-P", "-u", "-m", "mlopsd_probes.registry.child", CHANNEL, PARENT)
START_LIMIT = 60.0  # seconds to start Python and import MLflow on a busy machine
REACHABLE = "check that it runs and can be reached"
STOPPED = ("client", "its client was stopped; it is started again")

Answer = dict[str, Any]


class Unanswered(Exception):
    """A request got no answer.

    Attributes:
        kind: a kind of `mlopsd_probes.registry.registries.Complaint` or of a download.
        reason: one sentence without credentials.
        retry_after: the seconds for which the server asks to be left alone.
        store: the URI of the store of files if it was reached, without credentials; set by who asked.
    """

    def __init__(self, kind: str, reason: str, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason
        self.retry_after = retry_after
        self.store: str | None = None


class ClientProcess:
    """At most one process that asks *registry*; it owns *folder* while it runs.

    Any number of callers may ask at a time. A caller whose limit is over ends the process for all of them.
    """

    def __init__(
        self,
        registry: RegistryOptions,
        folder: Path,
        http_timeout: float,
        *,
        name: str,
        log: Log,
        printed: LogLimiter,
    ) -> None:
        self._registry = registry
        self._folder = folder
        self._http_timeout = http_timeout
        self._name = name
        self._log = log
        self._printed = printed
        self._starting: asyncio.Task[Unanswered | None] | None = None
        self._running: RequestChannel | None = None
        self._stopped: tuple[RequestChannel, tuple[str, str]] | None = None  # the last one, and why
        self._changing = asyncio.Lock()  # a start and an end use the same folder

    async def start(self) -> RequestChannel:
        """Start the process, wait until it is ready, and return its channel.

        A cancelled caller does not stop the start.

        Raises:
            Unanswered: the process cannot be started.
        """
        if self._running is not None and self._running.closed.is_set():
            await self._stop(self._running)
        if self._running is not None:
            return self._running
        if (starting := self._starting) is None:
            starting = self._starting = asyncio.get_running_loop().create_task(
                self._start(), name=f"start the client of {self._registry.label}"
            )
        await asyncio.wait({starting})
        if self._starting is starting:
            self._starting = None
        if starting.cancelled():
            raise Unanswered("client", "its client was stopped while it started")
        if (fault := starting.result()) is not None:
            raise fault
        if self._running is None:  # another caller has stopped it since
            raise Unanswered(*STOPPED)
        return self._running

    async def ask(self, question: Answer, limit: float) -> Answer:
        """Return the answer to *question*; kill the process if it takes longer than *limit* seconds.

        Raises:
            Unanswered: there is no answer; the reason says why.
        """
        running = await self.start()
        try:
            async with asyncio.timeout(limit):
                return await self._ask(running, question)
        except TimeoutError:
            late = f"no answer within {limit:g} s"
            stopped = f"its client was stopped, since another request had {late}; {REACHABLE}"
            await self._stop(running, ("timeout", stopped))
            raise Unanswered("timeout", f"{late}; {REACHABLE}") from None
        except Unanswered as error:
            if error.kind == "import_error" and running.idle.is_set():
                await self._stop(running)  # only a new process can import what is installed later
            raise

    async def ask_started(self, question: Answer, on_part: OnPart | None = None) -> Answer:
        """Return the answer of the started process; call *on_part* with each part before it.

        Raises:
            Unanswered: the process reported a fault, or ended.
        """
        if (running := self._running) is None:
            raise Unanswered(*STOPPED)
        return await self._ask(running, question, on_part)

    async def end(self) -> None:
        """Kill the process, and remove its files."""
        if (starting := self._starting) is not None:
            self._starting = None
            starting.cancel()
            await asyncio.wait({starting})
        async with self._changing:
            if (running := self._running) is not None:
                await self._kill(running, STOPPED)
            left = await in_thread("remove a client's files", lambda: remove_tree(self._folder))
            if left is not None:
                self._log.warning("files left behind", extra={"reason": left})

    async def _stop(self, running: RequestChannel, why: tuple[str, str] = STOPPED) -> None:
        """End the process of *running* unless that has happened.

        Its other callers get *why*, a kind and a reason.
        """
        async with self._changing:
            if self._running is running:
                await self._kill(running, why)

    async def _kill(self, running: RequestChannel, why: tuple[str, str]) -> None:
        self._running = None
        if not running.closed.is_set():
            self._stopped = running, why
        await running.child.kill()

    async def _ask(self, running: RequestChannel, question: Answer, on_part: OnPart | None = None) -> Answer:
        try:
            answer, _ = await running.ask(question, on_part=on_part)
        except (ChannelClosed, BadFrame):
            if self._stopped is not None and self._stopped[0] is running:
                raise Unanswered(*self._stopped[1]) from None
            how = await _how_it_ended(running.child)
            raise Unanswered(_kind_of_end(running.child), f"its client {how}; it is started again") from None
        if (fault := answer.get("fault")) is not None:
            raise Unanswered(**fault)
        return answer

    async def _start(self) -> Unanswered | None:
        """Start the process; return a fault and do not raise it, since all callers may be cancelled."""
        try:
            async with asyncio.timeout(START_LIMIT), self._changing:
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

    async def _started(self) -> RequestChannel:
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
        channel = RequestChannel(child)
        try:
            await self._open(channel)
        except BaseException:  # also a cancellation: nothing else would kill the process
            await child.kill()
            raise
        return channel

    async def _open(self, channel: RequestChannel) -> None:
        """Send the process its registry, and wait until it is ready."""
        try:
            await channel.send(self._opening())
            notice = await channel.notice()
        except (ChannelClosed, BadFrame):
            how = await _how_it_ended(channel.child)
            reason = f"its client {how} while it started; see its output in the log"
            raise Unanswered(_kind_of_end(channel.child), reason) from None
        if (fault := notice.get("fault")) is not None:
            raise Unanswered(**fault)

    def _opening(self) -> Answer:
        """Return the first message with the secrets; the user's other processes can read an environment."""
        registry = self._registry
        return {
            **registry.model_dump(mode="json", exclude={"workspace"}),
            "environment": inherited_credentials(registry),
            "redirect_hosts": registry.redirect_hosts,
        }


async def _how_it_ended(child: Child) -> str:
    await child.wait(1)
    return child.how_it_ended()


def _kind_of_end(child: Child) -> str:
    return "killed" if child.was_killed else "client"
