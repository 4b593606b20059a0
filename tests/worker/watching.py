"""A watch for the length of a test."""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from mlopsd.board import Board
from mlopsd.probe import Probe
from mlopsd.process import procfs
from mlopsd.watch import Watch
from tests import fakes
from tests.running import GIVE_UP


@contextlib.asynccontextmanager
async def watching(
    probe: type[Probe[Any]],
    isolation: Any,
    folder: Path,
    account: fakes.Account,
    *,
    patience: float = 20,
    **table: Any,
) -> AsyncIterator[Watch]:
    before = children()
    board = Board()
    configured = fakes.configured(probe, isolation, table, patience=patience)
    watch = fakes.watch(configured, folder, board, account)
    try:
        yield watch
    finally:
        await watch.close()
        board.close()
        deadline = time.monotonic() + GIVE_UP
        while children() > before and time.monotonic() < deadline:  # some end when nobody waits, on this loop
            await asyncio.sleep(0.01)


def children() -> int:
    """How many processes are children of this one."""
    return len(list(procfs.children(os.getpid())))


def lose_patience(watch: Watch, seconds: float = 0.3) -> None:
    """Wait no longer than that from now on; what takes its time to start has started."""
    configured = watch.configured
    watch.configured = replace(configured, terms=replace(configured.terms, timeout=seconds))


async def reached(path: Path) -> None:
    """Wait until *path* is there."""
    async with asyncio.timeout(GIVE_UP):
        while not path.exists():  # noqa: ASYNC240  # a moment's look at a local file
            await asyncio.sleep(0.01)
