"""Faults of processes: the daemon's own and those below it are killed, stopped and starved."""

import asyncio
import contextlib
import json
import os
import resource
import signal
import urllib.error
import urllib.request
from pathlib import Path

from chaos import kin
from chaos.fault import Begin, Ground, Injected
from chaos.memory import Squeeze
from chaos.models import COLUMNS
from chaos.traffic import HEADERS

SQUEEZED = 4 * 2**20  # bytes
EATEN = 64 * 2**20


def killed(role: str) -> Begin:
    """SIGKILL to the process that is the daemon's *role*, as `kin.named` knows them."""

    async def begin(ground: Ground) -> Injected:
        if (child := kin.named(ground.daemon.pid, role)) is None:
            return Injected(f"no {role} to kill")
        os.kill(child.pid, signal.SIGKILL)
        return Injected(f"SIGKILL to the {role} process {child.pid}")

    return begin


def stopped(role: str) -> Begin:
    """SIGSTOP to it, and SIGCONT at the end if the daemon has not killed it."""

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
    """Freeze the daemon, like a frozen virtual machine or a stuck terminal."""
    ground.daemon.freeze()

    async def undo() -> None:
        ground.daemon.thaw()

    return Injected("SIGSTOP to the daemon", undo)


async def take_descriptors(ground: Ground) -> Injected:
    """Lower the limit of the running daemon to the first number that is free."""
    pid = ground.daemon.pid
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    taken = {int(number.name) for number in Path(f"/proc/{pid}/fd").iterdir()}  # noqa: ASYNC240  # a folder of the kernel's
    lowest = next(number for number in range(len(taken) + 1) if number not in taken)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (lowest, hard))

    async def undo() -> None:
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))

    return Injected("the daemon may open no more descriptors", undo, lambda: False)


async def starve_host(ground: Ground) -> Injected:
    """Make the model's process want more memory than there is."""
    if (child := kin.named(ground.daemon.pid, "host")) is None:
        return Injected("no host to starve")
    squeeze = Squeeze(child.pid, SQUEEZED)
    answer = await asyncio.to_thread(_eat, ground.stage.port)
    what = f"no memory for the model by {squeeze.how}; it was told to take some: {answer}"
    return Injected(what, squeeze.end)


async def starve_worker(ground: Ground) -> Injected:
    """Give a probe's process no page more."""
    if (child := kin.named(ground.daemon.pid, "system")) is None:
        return Injected("no worker to starve")
    squeeze = Squeeze(child.pid, 0)
    return Injected(f"no memory for the system process by {squeeze.how}", squeeze.end, lambda: False)


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
