"""The daemon's side of a model host: a child process with one version, killed to unload it."""

import asyncio
import contextlib
import errno
import logging
import os
import secrets
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mlopsd.predictor import Prediction, PredictionError
from mlopsd.process.channel import ChannelClosed, RequestChannel
from mlopsd.process.child import CHANNEL, LAST_WORDS, PARENT, Child, spawn
from mlopsd.process.frames import BadFrame, Frame
from mlopsd.threads import in_thread
from mlopsd_probes.model.cache.files import tidy
from mlopsd_probes.model.metrics import ModelMetrics
from mlopsd_probes.model.options import ModelOptions
from mlopsd_probes.model.serving import replies
from mlopsd_probes.model.serving.canary import CanaryResult, failed_canary, silent_canary
from mlopsd_probes.model.serving.credentials import credential_paths
from mlopsd_probes.model.serving.launch import environment, opening
from mlopsd_probes.model.serving.liveness import SHARE, Backlog, HeartbeatPipe, Liveness, Reason, Silence
from mlopsd_probes.model.serving.replies import ReplyValidator
from mlopsd_probes.model.version import CachedVersion
from mlopsd_probes.registry.version import Version

SCRIPT = Path(__file__).parents[1] / "mlopsd_host"
SCARCE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.ENOSPC, errno.EDQUOT})
CRASHES = frozenset({signal.SIGSEGV, signal.SIGABRT, signal.SIGILL, signal.SIGFPE})
PAGE = os.sysconf("SC_PAGE_SIZE")
JSON = "application/json"
CONTENT_TYPES = {".csv": "text/csv"}
DROP = {"do": "drop"}  # a request whose caller has gone
POLL = 0.5  # seconds between two checks of a canary that has no answer yet


class HostDied(Exception):
    """The process ended before it answered; the text is `Child.how_it_ended`."""


class LoadFailed(Exception):
    """A version was not loaded, and its process is gone.

    Attributes:
        kind: a kind that `mlopsd_probes.causes.CAUSES` has for ``load``.
        reason: one sentence that names the cause.
    """

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason


@dataclass(frozen=True, slots=True)
class HostContext:
    """The parts that every process of one model shares.

    Attributes:
        scratch: a folder for what lives as long as a process.
        mismatches: ids of the versions whose joined requests were answered differently from single ones.
        wake: set when something has changed that the reconciler decides about.
    """

    log: logging.Logger
    scratch: Path
    measures: ModelMetrics
    mismatches: set[str]
    wake: asyncio.Event

    def note_mismatch(self, version: Version) -> None:
        """Stop batching the requests of *version*, in every process that loads it."""
        self.mismatches.add(version.id)
        self.measures.batching_mismatches.inc()
        self.log.warning("batching mismatch", extra={"version": version.number})
        self.wake.set()


class ModelHost:
    """One loaded version in a process of its own; made by `load`.

    Attributes:
        canary_behind: callers' requests ahead of an overdue canary.
    """

    def __init__(
        self,
        child: Child,
        heartbeat: HeartbeatPipe,
        folder: Path,
        *,
        version: Version,
        options: ModelOptions,
        context: HostContext,
    ) -> None:
        self._child = child
        self._version = version
        self._context = context
        self._has_mismatched = False
        self._heartbeat = heartbeat
        self._liveness = Liveness(options.hang_timeout, options.stall_timeout)
        self._stall_timeout = options.stall_timeout
        self._folder = folder
        self._canary_files = options.canary.files
        self._canary_content: dict[Path, bytes] = {}
        self._validator = ReplyValidator(len(options.prediction.buckets) + 1)
        self._isolation: Any = None
        self._facts: dict[str, Any] = {}
        self._channel = RequestChannel(child)
        self._listening: asyncio.Task[None] | None = None
        self._is_ending = False
        self._has_proof = False
        self.canary_behind = 0

    @classmethod
    async def load(
        cls,
        kept: CachedVersion,
        options: ModelOptions,
        context: HostContext,
        *,
        hidden: Sequence[Path],
    ) -> "ModelHost":
        """Start a process that loads *kept*, with a folder in ``scratch`` and without access to *hidden*.

        Raises:
            LoadFailed: *kept* was not loaded, or not within ``load_timeout``.
        """
        folder = context.scratch / f"host-{secrets.token_hex(8)}"
        host = None
        try:
            await in_thread("make room for a model host", lambda: folder.mkdir(mode=0o700, parents=True))
            child, heartbeat = await _start(kept.version, options, context.log, folder)
            host = cls(child, heartbeat, folder, version=kept.version, options=options, context=context)
            mismatched = kept.version.id in context.mismatches
            first = opening(kept, options, folder, hidden, credential_paths(), mismatched=mismatched)
            await host._load(first, options.load_timeout)
        except BaseException:  # also a cancellation: no process may be left behind
            await asyncio.shield(host.kill() if host is not None else _remove(folder))
            raise
        return host

    @property
    def facts(self) -> Mapping[str, Any]:
        """The facts that the process reported: flavor, MLflow, batching, isolation and others.

        It reported its isolation before any code of the model ran.
        """
        return {**self._facts, "isolation": self._isolation}

    @property
    def pid(self) -> int:
        """The process id."""
        return self._child.pid

    @property
    def alive(self) -> bool:
        """True while the process can answer."""
        return not (self._is_ending or self._channel.closed.is_set() or self._child.ended)

    @property
    def in_flight(self) -> int:
        """The number of unanswered requests, including those whose caller stopped waiting."""
        return len(self._channel.unanswered)

    @property
    def predictions_in_flight(self) -> int:
        """The number of callers' unanswered requests, including those whose caller stopped waiting."""
        return sum(request["do"] != "canary" for request in self._channel.unanswered)

    @property
    def backlog(self) -> Backlog:
        """Callers' unanswered requests, as of the last `diagnose`."""
        return Backlog(self.predictions_in_flight, self._liveness.unanswered)

    @property
    def is_beating(self) -> bool:
        """Return whether the last heartbeats came, as of the last `diagnose`."""
        return self._liveness.is_beating

    @property
    def beat_interval(self) -> float:
        """Seconds between two heartbeats."""
        return self._liveness.interval

    def diagnose(self) -> tuple[Reason, str] | None:
        """Return whether the process hangs or stalls, and the reason; call it once a `beat_interval`."""
        return self._liveness.judge(
            has_beaten=self._heartbeat.has_beaten(),
            waiting=self.in_flight,
            answered=self._channel.answered,
        )

    def take_proof(self) -> bool:
        """Return whether an answer to a caller passed the rules of the canary since the last call."""
        found, self._has_proof = self._has_proof, False
        return found

    async def rss(self) -> int | None:
        """Return the resident bytes (``/proc/PID/statm``); None when the process is gone."""
        statm = Path(f"/proc/{self.pid}/statm")
        try:
            pages = await in_thread("read the memory of a model host", statm.read_text)
        except (OSError, RuntimeError):  # it is gone, or this process has no thread left
            return None
        return int(pages.split()[1]) * PAGE if not self._child.ended else None

    async def died(self) -> str:
        """Wait until the process dies, and return how; never return after `end` or `kill`."""
        await self._channel.closed.wait()
        how = await self._how_it_ended()
        if self._is_ending:
            await asyncio.get_running_loop().create_future()  # never done: the caller is cancelled
        return how

    async def predict(self, body: bytes, content_type: str, within: float) -> Prediction:
        """Return the answer to *body*; a caller that is cancelled disturbs no other.

        The process drops a request whose turn does not come *within* seconds.

        Raises:
            PredictionError: 400, 413 or 415 for a caller's mistake, 500 for the model's, 504 for a timeout.
            HostDied: the process ended first.
        """
        began = time.monotonic()
        question = {"do": "predict", "type": content_type, "until": began + within}
        header, answer = await self._ask(question, body)
        try:
            prediction, seen = self._validator.prediction(header, answer, time.monotonic() - began)
        except BadFrame as error:
            raise PredictionError(500, "the model failed: its process sent an invalid answer") from error
        self._context.measures.observe(seen)
        self._has_proof |= seen.is_proof
        return prediction

    async def canary(self, timeout: float) -> CanaryResult:  # noqa: ASYNC109  # a timeout gives a result here
        """Return the canary's result, once callers' earlier requests are answered.

        The canary may wait ``stall_timeout`` for its turn, and then take *timeout* seconds.
        """
        asking = asyncio.create_task(self._canary(timeout), name=f"canary of model host {self.pid}")
        try:
            return await self._awaited(asking, timeout)
        except HostDied as error:
            kind = None if self._is_ending else _kind_of_end(self._child)
            return failed_canary(f"its process {error} before it answered", kind=kind or "")
        finally:
            self.canary_behind = 0
            asking.cancel()

    async def _awaited(self, asking: asyncio.Task[CanaryResult], limit: float) -> CanaryResult:
        step = min(POLL, limit / SHARE)
        in_all, in_turn = Silence(2 * step), Silence(2 * step)
        while not (await asyncio.wait({asking}, timeout=step))[0]:
            behind = self._ahead_of_canary()
            waited = in_all.add(sign=False)
            if in_turn.add(sign=behind > 0 and self._liveness.is_beating) >= limit:
                return silent_canary(limit)
            if behind and waited >= self._stall_timeout:
                why = f"it was not its turn within {self._stall_timeout:g} s (stall_timeout)"
                return failed_canary(why, self._stall_timeout)
            self.canary_behind = behind if waited >= limit else 0
        return asking.result()

    def _ahead_of_canary(self) -> int:
        """Count callers' unanswered requests that were sent before the last canary."""
        verbs = [request["do"] for request in self._channel.unanswered]
        while verbs and verbs.pop() != "canary":
            continue
        return len(verbs) - verbs.count("canary")

    async def _canary(self, patience: float) -> CanaryResult:
        files = self._canary_files
        content: dict[str, bytes] = {}
        for name, file in files.items():
            try:
                content[name] = await self._read_canary_file(file)
            except OSError as error:
                kind = _kind_of_errno(error) or "input"
                return failed_canary(f"its {name} {file} cannot be read: {error.strerror}", kind=kind)
        given = content.get("input", b"")
        content_type = "" if "input" not in files else CONTENT_TYPES.get(files["input"].suffix, JSON)
        request = {"do": "canary", "patience": patience, "type": content_type, "input": len(given)}
        header, _ = await self._ask(request, given + content.get("expect", b""))
        try:
            self._facts = replies.facts(header.get("facts"))
            return replies.canary(header.get("canary"))
        except BadFrame:
            return failed_canary("its process answered nonsense")

    async def _read_canary_file(self, file: Path) -> bytes:
        """Return the content of *file*; the last one read if no descriptor is left in this process."""
        try:
            self._canary_content[file] = await in_thread("read a file of the canary", file.read_bytes)
        except OSError as error:
            if error.errno not in SCARCE or file not in self._canary_content:
                raise
        return self._canary_content[file]

    async def end(self, within: float) -> None:
        """Wait for the open requests, at most *within* seconds, then kill the process.

        Kill it at once if cancelled.
        """
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(within):
                    await self._channel.idle.wait()
        finally:
            await asyncio.shield(self.kill())

    async def kill(self) -> None:
        """Kill the process and all that the model started, and remove its folder."""
        self._is_ending = True
        await self._child.kill()
        self._heartbeat.close()
        await _remove(self._folder)

    def _notice(self, header: Mapping[str, Any]) -> None:
        """Record the process' only notice: it answered batched requests differently from single ones."""
        replies.mismatch(header)
        if self._has_mismatched:
            raise BadFrame("a second mismatch")
        self._has_mismatched = True
        self._context.note_mismatch(self._version)

    async def _listen(self) -> None:
        """Read the notices of the process; kill it for an invalid one."""
        try:
            while True:
                self._notice(await self._channel.notice())
        except ChannelClosed:
            return
        except BadFrame:
            await self._child.kill()

    async def _load(self, opening: Mapping[str, Any], seconds: float) -> None:
        doing = "was starting"
        try:
            async with asyncio.timeout(seconds):
                await self._channel.send(opening)
                self._isolation = (await self._channel.notice()).get("isolation")
                while "loaded" not in (header := await self._channel.notice()):
                    if "failed" in header:
                        raise LoadFailed(*replies.failure(header))
                    self._context.measures.phase(*replies.phase(header))
                    doing = "was loading the model"
                self._facts = replies.facts(header["loaded"])
        except TimeoutError:
            raise LoadFailed("timeout", f"it {doing} for more than {seconds:g} s (load_timeout)") from None
        except ChannelClosed as error:
            how = await self._how_it_died(doing)
            raise LoadFailed(_kind_of_end(self._child) or "died", how) from error
        except BadFrame as error:
            raise LoadFailed("died", f"its process wrote nonsense while it {doing}") from error
        self._listening = asyncio.create_task(self._listen(), name=f"notices of model host {self.pid}")

    async def _how_it_died(self, doing: str) -> str:
        await self._child.wait(LAST_WORDS)
        hint = "; the kernel does that when memory runs out" if self._child.was_killed else ""
        return f"its process {self._child.how_it_ended()} while it {doing}{hint}"

    async def _how_it_ended(self) -> str:
        """Return how the process ended after it closed the channel; kill it if it does not end."""
        if not await self._child.wait(LAST_WORDS):
            await self._child.kill()
        return self._child.how_it_ended()

    async def _ask(self, request: Mapping[str, Any], body: bytes = b"") -> Frame:
        if not self.alive:
            raise HostDied("was gone")
        try:
            drop = DROP if request["do"] == "predict" else None
            return await self._channel.ask(request, body, if_cancelled=drop)
        except (ChannelClosed, BadFrame) as error:
            raise HostDied(await self._how_it_ended()) from error


def _kind_of_errno(error: OSError) -> Literal["scarce", "io_error"] | None:
    """Return the kind of failure if *error* is a fault of this host."""
    if error.errno in SCARCE:
        return "scarce"
    return "io_error" if error.errno == errno.EIO else None


def _kind_of_end(child: Child) -> Literal["killed", "signal"] | None:
    """Return the kind of failure if *child* was killed from outside; None if its own code ended it."""
    if child.was_killed:
        return "killed"
    return None if child.ended_by is None or child.ended_by in CRASHES else "signal"


async def _start(
    version: Version, options: ModelOptions, log: logging.Logger, folder: Path
) -> tuple[Child, HeartbeatPipe]:
    """Start the process.

    Its last argument is MLflow's URI of the version, for ``ps`` and the GPU probe.
    """
    python = str(options.python or sys.executable)
    uri = f"models:/{options.model}/{version.number}"
    heartbeat = HeartbeatPipe()
    pipe = heartbeat.write_end
    command = (python, "-X", "faulthandler", "-u", str(SCRIPT), CHANNEL, PARENT, str(pipe), uri)
    try:
        child = await spawn(
            *(command, "model host", log),
            environment=environment(folder),
            cwd=str(folder),
            pass_fds=(pipe,),
        )
    except BaseException as error:  # also a cancellation: the pipe must be closed
        heartbeat.close()
        if isinstance(error, OSError):
            kind = _kind_of_errno(error) or "interpreter"
            raise LoadFailed(kind, f"cannot start {python}: {error.strerror}") from error
        raise
    heartbeat.close_write_end()
    return child, heartbeat


async def _remove(folder: Path) -> None:
    await in_thread("clear up after a model host", lambda: tidy(folder))
