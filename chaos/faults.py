"""Every fault that is injected: how it begins, how it ends, what must show, and what it excuses."""

import asyncio
import contextlib
import json
import os
import resource
import signal
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from chaos import kin
from chaos.daemon import Daemon
from chaos.memory import Squeeze
from chaos.models import COLUMNS
from chaos.stage import INTERVAL, MODEL_TIMEOUT, TIMEOUT, Stage
from chaos.traffic import HEADERS

HOUR = 3600.0
SQUEEZED = 4 * 2**20  # bytes
EATEN = 64 * 2**20
STARTING = 20.0  # seconds for a registry's client, or the daemon, to be imported on a busy machine

Undo = Callable[[], Awaitable[None]]
Begin = Callable[["Ground"], Awaitable["Injected"]]


@dataclass(frozen=True, slots=True)
class Ground:
    """Where a fault happens."""

    stage: Stage
    daemon: Daemon


async def _nothing() -> None:
    return


@dataclass(frozen=True, slots=True)
class Injected:
    """A fault that has begun.

    Attributes:
        what: for the time line.
        undo: ends its cause.
        holds: whether what must show is still so.
    """

    what: str
    undo: Undo = _nothing
    holds: Callable[[], bool] = lambda: True


@dataclass(frozen=True, slots=True)
class Fault:
    """A kind of fault.

    Attributes:
        name: for people and for the schedule.
        begin: injects it.
        touches: what it is about; two that touch the same are not injected at once.
        shows: the probe that must not be healthy while it lasts; "" where none must.
        excuses: windows that it opens, until all is well again.
        lasts: whether it goes on until it is undone.
        recovers: seconds after its end in which all must be well.
        needs_disk: whether the state folder must have a disk of its own.
    """

    name: str
    begin: Begin
    touches: frozenset[str]
    shows: str = ""
    excuses: tuple[str, ...] = ()
    lasts: bool = True
    recovers: float = 2 * INTERVAL + TIMEOUT
    needs_disk: bool = field(default=False)


MODEL = 2 * INTERVAL + MODEL_TIMEOUT  # and while a version is on its way, which the reading says
CLIENT = MODEL + STARTING
DAEMON = MODEL + 2 * STARTING  # it starts, then the client


def _killed(role: str) -> Begin:
    async def begin(ground: Ground) -> Injected:
        if (child := kin.named(ground.daemon.pid, role)) is None:
            return Injected(f"no {role} to kill")
        os.kill(child.pid, signal.SIGKILL)
        return Injected(f"SIGKILL to the {role} process {child.pid}")

    return begin


def _stopped(role: str) -> Begin:
    async def begin(ground: Ground) -> Injected:
        if (child := kin.named(ground.daemon.pid, role)) is None:
            return Injected(f"no {role} to stop", holds=lambda: False)
        os.kill(child.pid, signal.SIGSTOP)

        async def undo() -> None:
            if child.is_there:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child.pid, signal.SIGCONT)

        return Injected(f"SIGSTOP to the {role} process {child.pid}", undo, lambda: child.is_there)

    return begin


async def kill_daemon(ground: Ground) -> Injected:
    """As the OOM killer or an operator in despair does it."""
    ground.stage.expect_any()
    pid = ground.daemon.pid
    await ground.daemon.kill()
    return Injected(f"SIGKILL to the daemon {pid}", ground.daemon.listening_again)


async def stop_daemon(ground: Ground) -> Injected:
    """A frozen virtual machine, or a stuck terminal."""
    ground.daemon.freeze()

    async def undo() -> None:
        ground.daemon.thaw()

    return Injected("SIGSTOP to the daemon", undo)


async def fill_disk(ground: Ground) -> Injected:
    """Not one byte is free."""
    ground.daemon.may_fail_to_start = True
    await asyncio.to_thread(ground.stage.fill)

    async def undo() -> None:
        await asyncio.to_thread(ground.stage.make_room)
        ground.daemon.may_fail_to_start = False

    return Injected("the state folder's disk is full", undo)


async def take_descriptors(ground: Ground) -> Injected:
    """The limit of the running daemon falls to the first number that is free."""
    pid = ground.daemon.pid
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    taken = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}  # noqa: PTH208
    lowest = next(number for number in range(len(taken) + 1) if number not in taken)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (lowest, hard))

    async def undo() -> None:
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))

    return Injected("the daemon may open no more descriptors", undo, lambda: False)


async def starve_host(ground: Ground) -> Injected:
    """The model's process wants more memory than there is."""
    squeeze = Squeeze(SQUEEZED)
    if (child := kin.named(ground.daemon.pid, "host")) is None:
        return Injected("no host to starve")
    squeeze.put(child.pid)
    answer = await asyncio.to_thread(_eat, ground.stage.port)

    async def undo() -> None:
        squeeze.end()

    return Injected(f"no memory for the model by {squeeze.how}; it was told to take some: {answer}", undo)


async def starve_worker(ground: Ground) -> Injected:
    """A probe's process gets no page more."""
    squeeze = Squeeze(0)
    if (child := kin.named(ground.daemon.pid, "system")) is None:
        return Injected("no worker to starve")
    squeeze.put(child.pid)

    async def undo() -> None:
        squeeze.end()

    return Injected(f"no memory for the system process by {squeeze.how}", undo, lambda: False)


def _eat(port: int) -> str:
    body = json.dumps({"dataframe_split": {"columns": COLUMNS, "data": [[f"eat {EATEN}", 1.0]]}})
    request = urllib.request.Request(f"http://127.0.0.1:{port}/invocations", body.encode(), HEADERS)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return str(answer.status)
    except urllib.error.HTTPError as error:
        return str(error.code)
    except OSError as error:
        return str(error)


async def kill_registry(ground: Ground) -> Injected:
    """It is gone, and started again at the end."""
    ground.stage.registry.end()
    return Injected("SIGKILL to the registry", ground.stage.registry.start)


async def freeze_registry(ground: Ground) -> Injected:
    """It accepts and never answers."""
    ground.stage.registry.signal(signal.SIGSTOP)

    async def undo() -> None:
        ground.stage.registry.signal(signal.SIGCONT)

    return Injected("SIGSTOP to the registry", undo)


def _driver(*lines: str) -> Begin:
    async def begin(ground: Ground) -> Injected:
        ground.stage.steer(*lines)

        async def undo() -> None:
            ground.stage.steer()

        return Injected(f"the driver: {'; '.join(lines)}", undo)

    return begin


def _clock(seconds: float) -> Begin:
    async def begin(ground: Ground) -> Injected:
        ground.stage.clock.move(seconds)

        async def undo() -> None:
            ground.stage.clock.move(0)

        return Injected(f"the time of day steps by {seconds:+g} s", undo, lambda: False)

    return begin


async def stop_heart(ground: Ground) -> Injected:
    """What the stranger's probe watches stops."""
    ground.stage.heart_beats = False

    async def undo() -> None:
        ground.stage.heart_beats = True

    return Injected("the stranger's file is not touched any more", undo)


async def move_alias(ground: Ground) -> Injected:
    """The champion is the other good version."""
    registry = ground.stage.registry
    number = next(number for number in registry.good if number != registry.champion)
    ground.stage.expect_any()
    await asyncio.to_thread(registry.point, number)
    return Injected(f"the champion is version {number}")


def _bad(step: str) -> Begin:
    async def begin(ground: Ground) -> Injected:
        registry = ground.stage.registry
        before = registry.champion
        await asyncio.to_thread(registry.point, registry.bad[step])

        async def undo() -> None:
            await asyncio.to_thread(registry.point, before)

        return Injected(f"the champion is version {registry.champion}, which fails its {step}", undo)

    return begin


def _of(*names: str) -> frozenset[str]:
    return frozenset(names)


ALL = _of("system", "gpu", "client", "host", "registry", "alias", "daemon")
FAULTS = (
    Fault("kill-system", _killed("system"), _of("system"), lasts=False),
    Fault("kill-gpu", _killed("gpu"), _of("gpu"), lasts=False),
    Fault("kill-client", _killed("client"), _of("client", "alias"), lasts=False, recovers=CLIENT),
    Fault("kill-host", _killed("host"), _of("host", "alias"), excuses=("host",), lasts=False, recovers=MODEL),
    Fault("stop-system", _stopped("system"), _of("system"), "system"),
    Fault("stop-gpu", _stopped("gpu"), _of("gpu"), "gpu"),
    Fault("stop-client", _stopped("client"), _of("client", "alias"), recovers=CLIENT),
    Fault("stop-host", _stopped("host"), _of("host", "alias"), "model", ("host",), recovers=MODEL),
    Fault("kill-daemon", kill_daemon, ALL, excuses=("host",), lasts=False, recovers=DAEMON),
    Fault("stop-daemon", stop_daemon, ALL, excuses=("host",), recovers=CLIENT),
    Fault("fill-disk", fill_disk, _of("system"), "system", recovers=MODEL, needs_disk=True),
    Fault("no-descriptors", take_descriptors, ALL, excuses=("host", "descriptors"), recovers=MODEL),
    Fault(
        "no-memory-host", starve_host, _of("host", "alias"), excuses=("host",), lasts=False, recovers=MODEL
    ),
    Fault("no-memory-worker", starve_worker, _of("system"), lasts=True),
    Fault("kill-registry", kill_registry, _of("registry", "alias", "client"), "model", recovers=CLIENT),
    Fault("freeze-registry", freeze_registry, _of("registry", "alias", "client"), "model", recovers=CLIENT),
    Fault("driver-hangs", _driver("hang nvmlDeviceGetPowerUsage deaf"), _of("gpu"), "gpu"),
    Fault("gpu-lost", _driver("lost gpu 1"), _of("gpu"), "gpu"),
    Fault("clock-forward", _clock(HOUR), _of("clock", "heartbeat"), recovers=MODEL),
    Fault("clock-back", _clock(-HOUR), _of("clock", "heartbeat"), recovers=MODEL),
    Fault("heart-stops", stop_heart, _of("heartbeat", "clock"), "heartbeat"),
    Fault("move-alias", move_alias, _of("alias", "registry"), lasts=False, recovers=MODEL),
    Fault("bad-canary", _bad("canary"), _of("alias", "registry"), "model", recovers=MODEL),
    Fault("bad-load", _bad("load"), _of("alias", "registry"), "model", recovers=MODEL),
)
