"""One probe on its interval: the deadline, one check at a time, and the only error boundary."""

import asyncio
import contextlib
import hashlib
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TypeVar

from mlopsd.board import Board
from mlopsd.config.probes import ProbeConfig
from mlopsd.entry import Entry
from mlopsd.failures import CheckTimeout, Failures, Stuck
from mlopsd.predictor import Predictor
from mlopsd.probe import ProbeError, Reading, ReloadRefused, Route, can_reload
from mlopsd.process.reaper import Reaper
from mlopsd.worker.worker import CLOSING_SECONDS, Recorder, Worker

FIRST_CHECK_WITHIN = 0.5  # seconds after the start: soon, but not all at once
AGAIN_WITHIN = 0.05  # seconds in which several wishes to be checked again are one
Result = TypeVar("Result")
log = logging.getLogger("mlopsd.watch")


class Busy(Exception):
    """A reload of this probe is running; one at a time."""


@dataclass(frozen=True, slots=True)
class ProbeReload:
    """One reload of a probe.

    Attributes:
        done: the sentence that says what was done; or `ReloadRefused`, `ProbeError` or another exception.
    """

    started_at: datetime
    done: asyncio.Task[str]


class Watch:
    """Watches one probe.

    *worker* runs its checks, *board* takes its readings, *recorder* its counts. *check_requested* is set by
    a probe that wants to be checked soon, between its beats. *host* spreads a fleet: the same probe beats
    at another moment on another host.
    """

    def __init__(
        self,
        configured: ProbeConfig,
        worker: Worker,
        board: Board,
        recorder: Recorder,
        *,
        check_requested: asyncio.Event | None = None,
        host: str | None = None,
    ) -> None:
        self.configured = configured
        self._check_requested = check_requested or asyncio.Event()
        self._worker = worker
        self._board = board
        self._recorder = recorder
        self._spread = spread(host or socket.gethostname(), configured.name)
        self._turn = asyncio.Lock()  # of the worker: one call of it at a time
        self._closed = False
        self._reaper = Reaper()
        self._in_flight: asyncio.Task[Entry] | None = None
        self._reload: ProbeReload | None = None
        self._failures = Failures(configured.name)
        self._first = asyncio.Event()

    @property
    def name(self) -> str:
        """The probe's name in the configuration."""
        return self.configured.name

    @property
    def predictor(self) -> Predictor | None:
        """Return the probe itself, if it predicts and has been made."""
        return self._worker.predictor

    @property
    def routes(self) -> Sequence[Route] | None:
        """Return the probe's own HTTP routes; None until it has been made."""
        return self._worker.routes

    @property
    def can_reload(self) -> bool:
        """Tell if the probe can be reloaded."""
        return can_reload(self.configured.probe)

    @property
    def reload(self) -> ProbeReload | None:
        """Return the reload that is running, or ran last."""
        return self._reload

    def retime(self, configured: ProbeConfig) -> None:
        """Go on under the terms of *configured*, which differs in nothing else."""
        self.configured = configured
        self._check_requested.set()

    async def reconfigure(self, configured: ProbeConfig) -> bool:
        """Let a predictor go on with the options of *configured* between two checks; return if it does."""
        if configured.predicts is None:
            return False
        async with self._turn:
            if self._closed:
                return False
            try:
                reconfigured = await self._worker.reconfigure(configured.predicts)
            except Exception:  # the boundary to a stranger's code
                log.exception("cannot go on with a changed table", extra={"probe": self.name})
                return False
        if reconfigured:
            self.retime(configured)
        return reconfigured

    async def first_reading(self) -> None:
        """Wait for the first reading; there is one after the timeout at the latest."""
        await self._first.wait()

    async def run(self) -> None:
        """Check for ever: at once, then at the probe's own beat, which no slow check moves."""
        loop = asyncio.get_running_loop()
        interval = self.configured.terms.interval
        start = loop.time()
        self._worker.prepare()
        await asyncio.sleep(self._spread * min(FIRST_CHECK_WITHIN, interval))
        beat = start + interval * (0.5 + self._spread)
        while True:
            await self.check()
            self._reaper.reap()
            interval = self.configured.terms.interval
            beat = next_beat(beat, interval, loop.time())
            while await self._is_asked_until(beat):
                await self.check()
                if self.configured.terms.interval < interval:  # the beat is that of the old one
                    interval = self.configured.terms.interval
                    beat = min(beat, loop.time() + interval)

    async def _is_asked_until(self, beat: float) -> bool:
        """Wait until *beat* of the loop's clock; return if the probe asked to be checked before."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(beat):
                await self._check_requested.wait()
                await asyncio.sleep(AGAIN_WITHIN)
                self._check_requested.clear()
                return True
        return False

    async def check(self) -> Entry:
        """Check now, or join the check in flight; the board's entry after it.

        Raises:
            ProbeError: the watch is closed.
        """
        self._refuse_if_closed()
        if self._in_flight is None or self._in_flight.done():
            loop = asyncio.get_running_loop()
            self._in_flight = loop.create_task(self._check(), name=f"look at {self.name}")
        in_flight = self._in_flight
        await asyncio.wait({in_flight})  # a caller that is cancelled leaves the check to the others
        if in_flight.cancelled():
            raise self._gone()
        return in_flight.result()

    def start_reload(self, *, dry_run: bool, force: bool) -> ProbeReload:
        """Begin to reload the probe.

        Raises:
            Busy: a reload is running.
        """
        if self._reload is not None and not self._reload.done.done():
            raise Busy(f"a reload of {self.name!r} is running")
        task = asyncio.get_running_loop().create_task(
            self._do_reload(dry_run=dry_run, force=force), name=f"reload {self.name}"
        )
        task.add_done_callback(self._tell_end)
        self._reload = ProbeReload(self._board.now(), task)
        return self._reload

    def _tell_end(self, task: asyncio.Task[str]) -> None:
        """Told whether or not anybody waits for it."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failures.of_reload(error)

    async def close(self) -> None:
        """End what is in flight and release the probe; nothing begins after that."""
        self._closed = True
        self._first.set()  # nobody may wait for a reading that does not come
        reloading = self._reload.done if self._reload is not None else None
        ending = {task for task in (self._in_flight, reloading) if task is not None and not task.done()}
        for task in ending:
            task.cancel()
        if ending:  # a worker does one thing at a time, and closing is one
            await asyncio.wait(ending, timeout=CLOSING_SECONDS)
        try:
            await self._worker.close()
        except Exception:  # the boundary to a stranger's code
            log.exception("cannot close the probe", extra={"probe": self.name})

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise self._gone()

    def _gone(self) -> ProbeError:
        return ProbeError(f"probe {self.name!r} is no longer watched; ask again")

    async def _check(self) -> Entry:
        clock = asyncio.get_running_loop().time
        async with self._turn:
            began = clock()
            result, reading = await self._look()
            seconds = clock() - began
        self._recorder.checked(self.name, result, seconds)
        self._recorder.hung(self.name, self._worker.stuck is not None)
        entry = self._board.record(self.name, reading, seconds)
        self._first.set()
        log.debug("checked", extra={"probe": self.name, "result": result, "duration_seconds": seconds})
        return entry

    async def _look(self) -> tuple[str, Reading]:
        """One check as a result and a reading: whatever a probe does ends here."""
        try:
            reading = await self._in_time(self._worker.check)
        except Exception as error:  # noqa: BLE001  # the boundary to a stranger's code
            return self._failures.of_check(error)
        self._failures.are_over()
        return "ok", reading

    async def _in_time(self, call: Callable[[], Awaitable[Result]]) -> Result:
        """Return what *call* of the worker gives; one that takes too long is cancelled, and returns at once.

        Raises:
            Stuck: an earlier call has not come back.
            CheckTimeout: it took longer than the probe may take.
        """
        if stuck := self._worker.stuck:
            raise Stuck(f"cannot be asked: {stuck}")
        timeout = self.configured.terms.timeout
        calling = asyncio.ensure_future(call())
        try:
            await asyncio.wait({calling}, timeout=timeout)  # an answer that a busy loop saw late is one
        finally:
            if is_late := not calling.done():
                calling.cancel()
                await asyncio.wait({calling}, timeout=CLOSING_SECONDS)
        if is_late:
            raise CheckTimeout(f"no answer within {timeout:g} s")
        return calling.result()

    async def _do_reload(self, *, dry_run: bool, force: bool) -> str:
        self._refuse_if_closed()
        call = partial(self._worker.reload, dry_run=dry_run, force=force)
        if self.configured.isolation == "loop":
            said = await call()  # its checks go on beside it, and it minds its own time
        else:
            said = await self._reload_in_turn(call)
        if not dry_run:
            self._board.end_lasting(self.name)
            log.info("reloaded", extra={"probe": self.name, "said": said, "force": force})
        return said

    async def _reload_in_turn(self, call: Callable[[], Awaitable[str]]) -> str:
        """Reload where one thing is done at a time, after the check in flight; the next check waits.

        Raises:
            ReloadRefused: an earlier call has not come back, and this one would wait for it as well.
        """
        async with self._turn:
            try:
                return await self._in_time(call)
            except Stuck as error:
                raise ReloadRefused(f"it {error}") from error


def spread(host: str, probe: str) -> float:
    """A number from 0 up to 1 that is the probe's own on this host, the same at every start."""
    digest = hashlib.blake2b(f"{host}/{probe}".encode(), digest_size=4).digest()
    return int.from_bytes(digest) / 2**32


def next_beat(beat: float, interval: float, now: float) -> float:
    """The first moment of the beat that is still to come; those that were missed are skipped."""
    return beat if beat > now else beat + interval * (1 + (now - beat) // interval)
