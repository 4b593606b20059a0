"""The use of the event loop by one probe: which of its steps held the loop, for how long and where."""

import asyncio
import contextlib
import inspect
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from mlopsd.log import PROBE
from mlopsd.probe import Advice, Finding, Status

HELD_SECONDS = 1.0  # a longer step is a fault: the health checks of load balancers wait about as long
SAMPLING_SECONDS = 0.25
FIX = 'a coroutine must not block: use def check, isolation = "process" or mlopsd.threads.in_thread'
RUN_HANDLE = asyncio.Handle._run.__code__  # noqa: SLF001  # the frame of every step of a loop
OWNER: ContextVar["tuple[LoopUse, str] | None"] = ContextVar(
    "OWNER", default=None
)  # of a task: probe and call


@dataclass(frozen=True, slots=True)
class LoopHold:
    """A step that held the event loop.

    Attributes:
        call: The call of the probe: ``check``, ``reload`` or the path of a route.
        seconds: The length of the step.
        where: ``folder/file.py:12 in function`` of the probe's own code, or "" if it is unknown.
    """

    call: str
    seconds: float
    where: str = ""

    def finding(self) -> Finding:
        """Return the finding about it."""
        at = f" at {self.where}" if self.where else ""
        return Finding(
            "event_loop",
            Status.DEGRADED,
            f"its {self.call} held the event loop for {self.seconds:.1f} s{at}; {FIX}",
            observed=round(self.seconds, 3),
            unit="seconds",
            limit=HELD_SECONDS,
            advice=Advice.FIX_CONFIG,
        )


class LoopUse:
    """The measurement of one probe's steps on the event loop, without the lag that others cause.

    - Each step of a call is timed, from one await to the next.
    - Meanwhile a thread samples the loop's frames. It finds the place, and steps in tasks of the probe.

    Attributes:
        package: The top-level package of the probe, by which its frames are recognised.
    """

    def __init__(self, probe: str = "") -> None:
        self.package = ""
        self._probe = probe
        self._timed: LoopHold | None = None
        self._sampled: LoopHold | None = None
        self._calls = 0  # in flight
        self._is_needed = threading.Event()
        self._is_closed = False
        self._sampler: threading.Thread | None = None

    async def call(self, name: str, function: Callable[[], Any]) -> Any:
        """Return the result of *function*, awaited if it is awaitable, and measure its steps as *name*."""
        tokens = OWNER.set((self, name)), PROBE.set(self._probe)
        self._calls += 1
        self._sample()
        try:
            result = self._step(name, function)
            return await _Steps(partial(self._step, name), result) if inspect.isawaitable(result) else result
        finally:
            self._calls -= 1
            if not self._calls:
                self._is_needed.clear()
            with contextlib.suppress(ValueError):  # a coroutine may be closed in another context
                OWNER.reset(tokens[0])
                PROBE.reset(tokens[1])

    def take(self) -> LoopHold | None:
        """Return the longest hold since the last call of this method, or None."""
        timed, sampled = self._timed, self._sampled
        self._timed = self._sampled = None
        if timed is None or sampled is None:
            return timed or sampled
        is_same = timed.seconds - sampled.seconds < 3 * SAMPLING_SECONDS
        return replace(timed, where=sampled.where) if is_same else timed

    def close(self) -> None:
        """End the thread."""
        self._is_closed = True
        self._is_needed.set()

    def _step(self, name: str, function: Callable[[], Any]) -> Any:
        began = time.monotonic()
        try:
            return function()
        finally:
            seconds = time.monotonic() - began
            if seconds >= HELD_SECONDS and (self._timed is None or seconds > self._timed.seconds):
                self._timed = LoopHold(name, seconds)

    def _sample(self) -> None:
        """Let the thread sample this thread until no call is in flight."""
        if self._sampler is None:
            target = partial(self._run_sampler, threading.get_ident())
            self._sampler = threading.Thread(target=target, name="loop sampler", daemon=True)
            self._sampler.start()
        self._is_needed.set()

    def _run_sampler(self, loop_thread: int) -> None:
        last: object | None = None
        since = 0.0
        while not self._is_closed:
            step, call, where = self._current_step(loop_thread)
            now = time.monotonic()
            if step is not last:
                last, since = step, now
            seconds = now - since
            longest = self._sampled.seconds if self._sampled is not None else HELD_SECONDS
            if step is not None and seconds >= longest:
                self._sampled = LoopHold(call, seconds, where)
            time.sleep(SAMPLING_SECONDS)
            if not self._is_needed.is_set():
                step = last = None  # keeps nothing alive
                self._is_needed.wait()

    def _current_step(self, thread: int) -> tuple[object | None, str, str]:
        """Return the step that *thread* runs if it is this probe's, its call, and its place in the probe."""
        frames = list(outwards(sys._current_frames().get(thread)))  # noqa: SLF001  # the documented name
        runner = next((frame for frame in frames if frame.f_code is RUN_HANDLE), None)
        handle: Any = None if runner is None else runner.f_locals.get("self")
        owner, call = (handle and handle._context.get(OWNER)) or (None, "")  # noqa: SLF001  # no other door
        if owner is not self:
            return None, "", ""
        own = (frame for frame in frames if package_of(frame) == self.package)
        return handle, call, next(map(place_of, own), "")


class _Steps:
    """An awaitable that passes on what *awaitable* awaits, and runs each step through *step*."""

    def __init__(self, step: Callable[[Callable[[], Any]], Any], awaitable: Awaitable[Any]) -> None:
        self._step = step
        self._coroutine = _await(awaitable)

    def __await__(self) -> Generator[Any, Any, Any]:
        resume: Callable[[], Any] = partial(self._coroutine.send, None)
        while True:
            try:
                awaited = self._step(resume)
            except StopIteration as ended:
                return ended.value
            try:
                sent = yield awaited
            except GeneratorExit:
                self._coroutine.close()
                raise
            except BaseException as error:  # noqa: BLE001  # the loop throws CancelledError through here
                resume = partial(self._coroutine.throw, error)
            else:
                resume = partial(self._coroutine.send, sent)


async def _await(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


def outwards(frame: FrameType | None) -> Iterator[FrameType]:
    """Yield *frame* and its callers."""
    while frame is not None:
        yield frame
        frame = frame.f_back


def package_of(frame: FrameType) -> str:
    """Return the top-level package of the code of *frame*."""
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


def place_of(frame: FrameType) -> str:
    """Return the place of *frame* without the path of the installation."""
    file = Path(frame.f_code.co_filename)
    return f"{file.parent.name}/{file.name}:{frame.f_lineno} in {frame.f_code.co_name}"
