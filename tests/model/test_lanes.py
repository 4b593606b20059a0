"""Real processes with one request that takes long: who is answered meanwhile, and whose work is dropped."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from mlopsd.process.reaper import adopt_orphans
from mlopsd_probes.model.serving.host import ModelHost
from tests.model.models.saved import host_context, kept, options, rows, troubled

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(900)]

JSON = "application/json"
PATIENCE = 600.0  # the processes import MLflow at once, beside those of another worker's tests
ROWS = 3
AT_ONCE = 2


def ask(*deeds: str) -> bytes:
    return rows(["do", "x"], *[[deed, 7.0] for deed in deeds])


Hosts = dict[str, ModelHost]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hosts(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Hosts]:
    """A process by each value of ``threads``."""
    folder = tmp_path_factory.mktemp("lanes")
    troubled(folder / "model")
    adopt_orphans()  # as the daemon does

    async def load(threads: str | int) -> ModelHost:
        return await ModelHost.load(
            kept(folder / "model"),
            options(load_timeout=PATIENCE, serving={"threads": threads}),
            host_context(folder / "scratch"),
            hidden=[],
        )

    loaded = await asyncio.gather(load("auto"), load(1), load(AT_ONCE))
    yield dict(zip(("auto", "one", "two"), loaded, strict=True))
    await asyncio.gather(*(host.kill() for host in loaded))


class Slow:
    """A request of `ROWS` rows that is predicted until it is told to end; entered once it has begun."""

    def __init__(self, host: ModelHost, name: str) -> None:
        self.host = host
        self._go, self._begun = (host._folder / f"{name}-{part}" for part in ("go", "begun"))

    async def __aenter__(self) -> "Slow":
        deeds = [f"write {self._begun}", *[f"spin_until {self._go}"] * (ROWS - 1)]
        self.task = asyncio.create_task(self.host.predict(ask(*deeds), JSON, PATIENCE))
        while not self._begun.exists():
            await asyncio.sleep(0.01)
            assert not self.task.done(), self.task.result()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._go.touch()
        async with asyncio.timeout(PATIENCE):
            await self.task


async def predicted(host: ModelHost, *deeds: str) -> bytes:
    async with asyncio.timeout(PATIENCE):
        return (await host.predict(ask(*deeds), JSON, PATIENCE)).body


async def test_smaller_requests_are_answered_beside_one_that_takes_long(hosts: Hosts) -> None:
    async with Slow(hosts["auto"], "small") as slow:
        for _ in range(3):
            assert await predicted(slow.host, "") == b'{"predictions": [7.0]}'
        assert not slow.task.done()


async def test_a_request_as_large_waits_its_turn_while_smaller_ones_overtake(hosts: Hosts) -> None:
    async with Slow(hosts["auto"], "alike") as slow:
        alike = asyncio.create_task(predicted(slow.host, *[""] * ROWS))
        for _ in range(3):
            await predicted(slow.host, "")
        assert not alike.done()
        assert not slow.task.done()
    assert await alike == b'{"predictions": [7.0, 7.0, 7.0]}'


async def test_with_several_threads_requests_of_any_size_are_predicted_at_a_time(hosts: Hosts) -> None:
    async with Slow(hosts["two"], "two") as slow:
        assert await predicted(slow.host, *[""] * ROWS) == b'{"predictions": [7.0, 7.0, 7.0]}'
        assert not slow.task.done()
    async with Slow(hosts["two"], "first"), Slow(hosts["two"], "second"):
        pass


async def test_a_canary_waits_its_turn_in_any_case(hosts: Hosts) -> None:
    async with Slow(hosts["auto"], "canary") as slow:
        canary = asyncio.create_task(slow.host.canary(PATIENCE))
        await predicted(slow.host, "")
        await predicted(slow.host, "")
        assert not canary.done()
    assert (await canary).rows == 1


@pytest.mark.parametrize("name", ["auto", "one"])
async def test_work_that_nobody_waits_for_is_dropped(hosts: Hosts, tmp_path: Path, name: str) -> None:
    host = hosts[name]
    marks = [host._folder / f"dropped-{name}-{at}" for at in range(3)]
    async with Slow(host, f"drop-{name}"):
        callers = [
            asyncio.create_task(host.predict(ask(f"write {mark}", *[""] * ROWS), JSON, PATIENCE))
            for mark in marks
        ]
        while host.in_flight < 1 + len(marks):
            await asyncio.sleep(0.01)
        for caller in callers[:2]:
            caller.cancel()
        await asyncio.gather(*callers[:2], return_exceptions=True)
    await callers[2]
    assert [mark.exists() for mark in marks] == [False, False, True]
    assert host.in_flight == 0
