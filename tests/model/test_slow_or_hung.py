"""Real processes of models that are slow, that hang and that stall: who is killed, and who is left alone."""

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio

from mlopsd.predictor import PredictionError
from mlopsd.probe import Context
from mlopsd.process.reaper import adopt_orphans
from mlopsd_probes.model.metrics import RESTARTS, model_metrics, with_buckets
from mlopsd_probes.model.options import ModelOptions
from mlopsd_probes.model.progress import ProgressTracker
from mlopsd_probes.model.serving.active_model import ActiveModel, ActiveVersion
from mlopsd_probes.model.serving.canary import silent_canary
from mlopsd_probes.model.serving.host import ModelHost
from mlopsd_probes.model.serving.liveness import Backlog
from mlopsd_probes.model.version import CachedVersion
from tests.fakes import Instruments
from tests.model.models.saved import host_context, kept, options, rows, troubled
from tests.model.world import WELL, version

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(900)]

LOG = logging.getLogger("mlopsd.test.host")
JSON = "application/json"
PATIENCE = 600.0  # several processes import MLflow at once, beside those of another worker's tests
NEVER = 3600.0
GO = "go"  # a file in a process' own folder


def ask(deed: str) -> bytes:
    return rows(["do", "x"], [deed, 7.0])


@dataclass
class Put:
    """A host in service, and how it was lost."""

    host: ModelHost
    options: ModelOptions

    def __post_init__(self) -> None:
        self.lost = asyncio.Event()
        self.instruments = Instruments()
        counted = model_metrics(self.instruments, with_buckets((1.0,)))
        progress = ProgressTracker(Context("model", Path("/nowhere"), LOG, {}, self.instruments))
        self.service = ActiveModel(self.options.prediction, counted, LOG, self.lost, progress)
        moment = datetime.now(UTC)
        cached = CachedVersion(version("1"), "/models/1", ())
        self.service.put(ActiveVersion(cached, self.host, moment, WELL, moment))

    @property
    def losses(self) -> list[object]:
        """The reasons of the losses that were counted."""
        reported = self.instruments.sinks[RESTARTS.name].reported
        return [labels["reason"] for amount, labels in reported if amount]

    async def code(self, deed: str) -> int:
        """The status that a caller gets."""
        try:
            await self.service.predict(ask(deed), JSON)
        except PredictionError as error:
            return error.code
        return 200

    async def until_lost(self) -> str:
        """Wait until its process is killed; the reason."""
        async with asyncio.timeout(PATIENCE):
            await self.lost.wait()
        assert not self.host.alive
        assert not psutil.pid_exists(self.host.pid)
        assert self.service.serving is None
        assert self.service.lost is not None
        (reason,) = self.losses
        return str(reason)

    def go(self) -> None:
        """Let go of what spins until then."""
        (self.host._folder / GO).touch()


SOON = {"hang_timeout": 2, "stall_timeout": NEVER, "prediction": {"timeout": 0.5}}
TABLES: dict[str, dict[str, Any]] = {
    "slow": {"hang_timeout": 30, "stall_timeout": NEVER, "prediction": {"timeout": 0.5}},
    "stopped": SOON,
    "native": SOON,
    "forked": SOON,
    "busy_and_stopped": {**SOON, "hang_timeout": 30},
    "deadlocked": {"hang_timeout": 30, "stall_timeout": 2, "prediction": {"timeout": 0.5}},
    "busy": {"hang_timeout": 30, "stall_timeout": NEVER},
    "never_idle": {"hang_timeout": 30, "stall_timeout": 2, "prediction": {"timeout": 1}},
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hosts(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[dict[str, Put]]:
    folder = tmp_path_factory.mktemp("hosts")
    troubled(folder / "model")
    canary = folder / "canary.json"
    canary.write_bytes(ask(""))
    adopt_orphans()
    before = psutil.Process().num_fds()

    async def load(table: dict[str, Any]) -> Put:
        made = options(**table, load_timeout=PATIENCE, canary={"input": canary, "timeout": 1})
        host = await ModelHost.load(
            kept(folder / "model"),
            made,
            host_context(folder / "scratch"),
            hidden=[],
        )
        return Put(host, made)

    loaded = await asyncio.gather(*(load(table) for table in TABLES.values()))
    yield dict(zip(TABLES, loaded, strict=True))
    await asyncio.gather(*(put.service.close() for put in loaded))
    assert psutil.Process().num_fds() <= before + 3


async def test_a_slow_request_is_reported_and_its_process_lives_and_answers_later_callers(
    hosts: dict[str, Put],
) -> None:
    put = hosts["slow"]
    codes = [await put.code(deed) for deed in (f"spin_until {GO}", *[""] * 5)]
    assert codes == [504] * 6
    async with asyncio.timeout(PATIENCE):
        while put.host.backlog.seconds < 1:
            await asyncio.sleep(0.01)
    assert put.host.backlog.requests >= 1
    put.go()
    async with asyncio.timeout(PATIENCE):
        while await put.code("") != 200:
            pass
        while put.host.backlog != Backlog():
            await asyncio.sleep(0.01)
    assert put.host.alive
    assert put.losses == []


async def test_a_process_that_is_stopped_hangs(hosts: dict[str, Put]) -> None:
    os.kill(hosts["stopped"].host.pid, signal.SIGSTOP)
    assert await hosts["stopped"].until_lost() == "hang"


async def test_a_call_that_does_not_let_go_of_the_interpreter_hangs(hosts: dict[str, Put]) -> None:
    assert await hosts["native"].code("sleep_with_the_gil 3600") in (500, 504)
    assert await hosts["native"].until_lost() == "hang"


async def test_what_a_model_forks_does_not_beat_in_the_place_of_its_parent(hosts: dict[str, Put]) -> None:
    put = hosts["forked"]
    assert await put.code("fork_a_child") == 200
    (child,) = psutil.Process(put.host.pid).children()
    os.kill(put.host.pid, signal.SIGSTOP)
    assert await put.until_lost() == "hang"
    psutil.wait_procs([child], timeout=PATIENCE)
    assert not child.is_running()


async def test_a_deadlock_whose_interpreter_turns_is_a_stall(hosts: dict[str, Put]) -> None:
    put = hosts["deadlocked"]
    assert await put.code("deadlock") == 504
    assert await put.until_lost() == "stall"
    assert put.service.lost is not None
    assert put.service.lost.how == (
        "it has finished no prediction for 2 s (stall_timeout), and 1 request waits"
    )


async def test_a_canary_waits_its_turn_behind_what_callers_asked_before(hosts: dict[str, Put]) -> None:
    put = hosts["busy"]
    asking = asyncio.create_task(put.code(f"spin_until {GO}"))
    await asyncio.sleep(0)
    canary = asyncio.create_task(put.host.canary(0.2))
    async with asyncio.timeout(PATIENCE):
        while not put.host.canary_behind:
            await asyncio.sleep(0.01)
    assert (put.host.canary_behind, canary.done()) == (1, False)
    put.go()
    assert (await canary).passed
    assert put.host.canary_behind == 0
    await asking
    serving = put.service.serving
    assert serving is not None
    assert serving.is_answering
    assert not replace(serving, canary=silent_canary(0.2)).is_answering


async def test_a_canary_behind_callers_fails_where_there_is_no_heartbeat(hosts: dict[str, Put]) -> None:
    put = hosts["busy_and_stopped"]
    asking = asyncio.create_task(put.code(f"spin_until {GO}"))
    await asyncio.sleep(0)
    os.kill(put.host.pid, signal.SIGSTOP)
    canary = await put.host.canary(0.2)
    assert (canary.passed, canary.reason) == (False, "no answer within 0.2 s")
    assert put.host.alive
    assert canary.is_silent
    await put.service.close()
    await asking


async def test_a_canary_whose_turn_does_not_come_until_the_stall_timeout_fails(
    hosts: dict[str, Put],
) -> None:
    put = hosts["never_idle"]
    put.service.take()  # so that nobody kills it first
    asking = asyncio.create_task(put.host.predict(ask("deadlock"), JSON, PATIENCE))
    await asyncio.sleep(0)
    canary = await put.host.canary(0.2)
    assert (canary.passed, canary.reason) == (False, "it was not its turn within 2 s (stall_timeout)")
    await put.host.kill()
    await asyncio.gather(asking, return_exceptions=True)
