"""One probe on its interval: the timeout, one check at a time, and the only error boundary."""

import asyncio
import contextlib
import hashlib
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
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
from mlopsd.worker.mask import SecretMask
from mlopsd.worker.worker import CLOSING_SECONDS, Recorder, Worker

FIRST_CHECK_WITHIN = 0.5  # seconds after the start: soon, but not all at once
AGAIN_WITHIN = 0.05  # seconds; check requests within it lead to one check
Result = TypeVar("Result")
log = logging.getLogger("mlopsd.watch")


class Busy(Exception):
    """The error of a reload while another one of the same probe is running."""


@dataclass(frozen=True, slots=True)
class ProbeReload:
    """One reload of a probe.

    Attributes:
        started_at: The time of the start, in UTC.
        done: The task. It returns what was done, in one sentence, or raises `ReloadRefused`, `ProbeError`
            or another exception.
    """

    started_at: datetime
    done: asyncio.Task[str]


class Watch:
    """The watch of one probe.

    *worker* runs its checks, *board* gets its readings, *recorder* its counts. The probe sets
    *check_requested* to request a check before the next due time. *host* spreads the checks of a fleet: the
    same probe is due at another moment on another host.
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
        self._mask = SecretMask.of([configured.options])
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
        self._failures = Failures(configured.name, configured.isolation)
        self._first = asyncio.Event()

    @property
    def name(self) -> str:
        """Return the probe's name in the configuration."""
        return self.configured.name

    @property
    def predictor(self) -> Predictor | None:
        """Return the probe itself if it predicts, or None before it was made."""
        return self._worker.predictor

    @property
    def routes(self) -> Sequence[Route] | None:
        """Return the probe's own HTTP routes, or None before it was made."""
        return self._worker.routes

    @property
    def can_reload(self) -> bool:
        """Return whether the probe can be reloaded."""
        return can_reload(self.configured.probe)

    @property
    def reload(self) -> ProbeReload | None:
        """Return the current reload, or else the last one."""
        return self._reload

    def retime(self, configured: ProbeConfig) -> None:
        """Apply the terms of *configured*, which differs in nothing else."""
        self.configured = configured
        self._mask = SecretMask.of([configured.options])
        self._check_requested.set()

    async def reconfigure(self, configured: ProbeConfig) -> bool:
        """Apply the options of *configured* to a predictor between two checks; return whether it did."""
        if configured.predicts is None:
            return False
        async with self._turn:
            if self._closed:
                return False
            try:
                reconfigured = await self._worker.reconfigure(configured.predicts)
            except Exception:  # the boundary to third-party code
                log.exception("probe reconfiguration failed", extra={"probe": self.name})
                return False
        if reconfigured:
            self.retime(configured)
        return reconfigured

    async def first_reading(self) -> None:
        """Wait for the first reading, which comes after the timeout at the latest."""
        await self._first.wait()

    async def run(self) -> None:
        """Check at once, then once per interval until cancelled. A slow check shifts no due time."""
        loop = asyncio.get_running_loop()
        interval = self.configured.terms.interval
        start = loop.time()
        self._worker.prepare()
        await asyncio.sleep(self._spread * min(FIRST_CHECK_WITHIN, interval))
        due = start + interval * (0.5 + self._spread)
        while True:
            await self.check()
            self._reaper.reap()
            interval = self.configured.terms.interval
            due = next_due(due, interval, loop.time())
            while await self._is_requested_before(due):
                await self.check()
                if self.configured.terms.interval < interval:  # *due* is by the old interval
                    interval = self.configured.terms.interval
                    due = min(due, loop.time() + interval)

    async def _is_requested_before(self, due: float) -> bool:
        """Wait until *due* on the loop's clock; return whether the probe requested a check before."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(due):
                await self._check_requested.wait()
                await asyncio.sleep(AGAIN_WITHIN)
                self._check_requested.clear()
                return True
        return False

    async def check(self) -> Entry:
        """Check now or join the check in flight, and return the board's entry after it.

        Raises:
            ProbeError: The watch is closed.
        """
        self._refuse_if_closed()
        if self._in_flight is None or self._in_flight.done():
            loop = asyncio.get_running_loop()
            self._in_flight = loop.create_task(self._check(), name=f"check {self.name}")
        in_flight = self._in_flight
        await asyncio.wait({in_flight})  # cancelling one caller does not cancel the check for the others
        if in_flight.cancelled():
            raise self._gone()
        return in_flight.result()

    def start_reload(self, *, dry_run: bool, force: bool) -> ProbeReload:
        """Start a reload of the probe.

        Raises:
            Busy: A reload is running.
        """
        if self._reload is not None and not self._reload.done.done():
            raise Busy(f"cannot reload {self.name!r}: a reload of it is running; try again when it has ended")
        task = asyncio.get_running_loop().create_task(
            self._do_reload(dry_run=dry_run, force=force), name=f"reload {self.name}"
        )
        task.add_done_callback(self._log_failure)
        self._reload = ProbeReload(self._board.now(), task)
        return self._reload

    def _log_failure(self, task: asyncio.Task[str]) -> None:
        """Log a failed reload, even if no caller waits for it."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failures.of_reload(error)

    async def close(self) -> None:
        """Cancel the check and the reload in flight, and close the probe. Nothing starts after that."""
        self._closed = True
        self._first.set()  # release everybody who waits for a reading
        reloading = self._reload.done if self._reload is not None else None
        ending = {task for task in (self._in_flight, reloading) if task is not None and not task.done()}
        for task in ending:
            task.cancel()
        if ending:  # the worker makes one call at a time, also to close
            await asyncio.wait(ending, timeout=CLOSING_SECONDS)
        try:
            await self._worker.close()
        except Exception:  # the boundary to third-party code
            log.exception("probe close failed", extra={"probe": self.name})

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise self._gone()

    def _gone(self) -> ProbeError:
        return ProbeError(f"probe {self.name!r} is no longer watched; try again")

    async def _check(self) -> Entry:
        clock = asyncio.get_running_loop().time
        async with self._turn:
            began = clock()
            result, reading = await self._attempt()
            seconds = clock() - began
        reading = self._with_hold(self._mask.reading(reading))
        self._recorder.checked(self.name, result, seconds)
        self._recorder.hung(self.name, hung=self._worker.stuck is not None)
        entry = self._board.record(self.name, reading, seconds)
        self._recorder.recorded(entry)
        self._first.set()
        log.debug("probe checked", extra={"probe": self.name, "result": result, "duration_seconds": seconds})
        return entry

    async def _attempt(self) -> tuple[str, Reading]:
        """Return the result and the reading of one check; every exception of a probe ends here."""
        try:
            reading = await self._in_time(self._worker.check)
        except Exception as error:  # noqa: BLE001  # the boundary to third-party code
            return self._failures.of_check(error)
        self._failures.are_over()
        return "ok", reading

    def _with_hold(self, reading: Reading) -> Reading:
        """Return *reading*, with a finding if a step of the probe held the event loop since the last one."""
        use = self._worker.loop_use
        if use is None or (hold := use.take()) is None:
            return reading
        self._failures.of_hold(hold)
        finding = hold.finding()
        is_worst = reading.status < finding.status
        return replace(
            reading,
            findings=(*reading.findings, finding),
            status=max(reading.status, finding.status),
            summary=finding.summary if is_worst else reading.summary,
        )

    async def _in_time(self, call: Callable[[], Awaitable[Result]]) -> Result:
        """Return the result of *call* to the worker; cancel it after the probe's timeout.

        Raises:
            Stuck: An earlier call has not returned.
            CheckTimeout: The call exceeded the timeout.
        """
        if stuck := self._worker.stuck:
            raise Stuck(f"cannot be asked: {stuck}")
        timeout = self.configured.terms.timeout
        calling = asyncio.ensure_future(call())
        try:
            await asyncio.wait({calling}, timeout=timeout)  # a result that a busy loop sees late still counts
        finally:
            if is_late := not calling.done():
                calling.cancel()
                await asyncio.wait({calling}, timeout=CLOSING_SECONDS)
        if is_late:
            raise CheckTimeout(f"no answer within {timeout:g} s{self._why_it_goes_on()}")
        return calling.result()

    def _why_it_goes_on(self) -> str:
        """Return why a coroutine did not end when it was cancelled, or ""."""
        stuck = self._worker.stuck if self.configured.isolation == "loop" else None
        return f"; {stuck}" if stuck else ""

    async def _do_reload(self, *, dry_run: bool, force: bool) -> str:
        try:
            return self._mask.text(await self._reload_once(dry_run=dry_run, force=force))
        except Exception as error:  # the boundary to third-party code
            if (masked := self._mask.error(error)) is error:
                raise
            raise masked from None

    async def _reload_once(self, *, dry_run: bool, force: bool) -> str:
        self._refuse_if_closed()
        call = partial(self._worker.reload, dry_run=dry_run, force=force)
        if self.configured.isolation == "loop":
            summary = await call()  # checks continue meanwhile, and the probe keeps its own time limit
        else:
            summary = await self._reload_in_turn(call)
        if not dry_run:
            self._board.end_lasting(self.name)
            extra = {"probe": self.name, "summary": summary, "force": force, "history": True}
            log.info("probe reloaded", extra=extra)
        return summary

    async def _reload_in_turn(self, call: Callable[[], Awaitable[str]]) -> str:
        """Reload after the check in flight; the next check waits for the reload.

        Raises:
            ReloadRefused: An earlier call has not returned, and the reload would wait for it too.
        """
        async with self._turn:
            try:
                return await self._in_time(call)
            except Stuck as error:
                raise ReloadRefused(f"it {error}") from error


def spread(host: str, probe: str) -> float:
    """Return a number from 0 up to 1 that depends only on *host* and *probe*."""
    digest = hashlib.blake2b(f"{host}/{probe}".encode(), digest_size=4).digest()
    return int.from_bytes(digest) / 2**32


def next_due(due: float, interval: float, now: float) -> float:
    """Return the first due time after *now*, in seconds on the same clock. Skip the missed ones."""
    return due if due > now else due + interval * (1 + (now - due) // interval)
