"""Registries as the probe has them, and what they must not leave behind."""

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil

from mlopsd.process import procfs
from mlopsd_probes.model.options import ModelOptions
from mlopsd_probes.registry.pool import POOL
from mlopsd_probes.registry.registries import Registries
from tests.processes import command
from tests.running import GIVE_UP

CLIENT = b"mlopsd_probes.registry.child"
GONE_SECONDS = GIVE_UP  # for what was ended to be gone

Counted = list[tuple[str, str]]


@asynccontextmanager
async def asking(
    scratch: Path, *registries: str | Mapping[str, Any], **options: Any
) -> AsyncIterator[tuple[Registries, Counted]]:
    """Registries, and the operations that they count; afterwards nothing is left of them."""
    written = [{"uri": one} if isinstance(one, str) else one for one in registries]
    table = {"model": "iris", "candidates": ["@champion"], "registries": written, **options}
    counted: Counted = []

    def count(operation: str, result: str, seconds: float) -> None:
        assert seconds >= 0
        counted.append((operation, result))

    before, others = descriptors(), clients()
    made = Registries(
        ModelOptions(**table).wanted, logging.getLogger("mlopsd.test"), count, scratch, "model", pool=POOL
    )
    try:
        yield made, counted
    finally:
        async with asyncio.timeout(GIVE_UP):  # whatever a registry does, nobody waits for it to finish
            await made.close()
    await nothing_left(scratch, before, others)


async def nothing_left(scratch: Path, before: int, others: list[int]) -> None:
    """No process, file or descriptor more than there was."""
    deadline = time.monotonic() + GONE_SECONDS
    while (clients() != others or descriptors() > before) and time.monotonic() < deadline:
        await asyncio.sleep(0.02)
    assert clients() == others
    assert descriptors() <= before
    assert rest(scratch) == []


def clients(parent: int | None = None) -> list[int]:
    """The processes of registries that are children of *parent*, this process if left out; no zombies."""
    return [child for child in procfs.children(parent or os.getpid()) if client_is_there(child)]


def client_is_there(pid: int) -> bool:
    """Return whether *pid* is a registry's process."""
    return CLIENT in command(pid).split(b"\0")


def hosts_in(folder: Path) -> list[psutil.Process]:
    """The processes of models whose own folder is below *folder*."""
    return [process for process in psutil.process_iter() if str(folder) in _own_folder(process)]


def hosts_left_in(folder: Path) -> list[psutil.Process]:
    """Return the processes of `hosts_in` that the kernel has killed but not yet ended."""
    deadline = time.monotonic() + GONE_SECONDS
    while (left := hosts_in(folder)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def _own_folder(process: psutil.Process) -> str:
    try:
        return process.environ().get("TMPDIR", "")
    except psutil.Error:
        return ""


def descriptors() -> int:
    """Return how many this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def rest(folder: Path) -> list[Path]:
    """All that is below *folder*."""
    return list(folder.rglob("*"))
