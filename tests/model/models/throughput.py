"""Predictions a second through a host, together and each alone, beside MLflow's own server.

``python throughput.py MODEL COLUMN…``: a folder that MLflow saved, and its columns, all of them numbers.
"""

import asyncio
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Literal

import aiohttp

from mlopsd_probes.model.serving.host import ModelHost
from tests.model.models.saved import HERE, host_context, kept, options, rows

SECONDS = 5.0
CONNECTIONS = 16
PATIENCE = 120.0

Ask = Callable[[], Awaitable[object]]


async def measure(name: str, ask: Ask, connections: int) -> None:
    seconds: list[float] = []
    end = time.perf_counter() + SECONDS

    async def one() -> None:
        while (began := time.perf_counter()) < end:
            await ask()
            seconds.append(time.perf_counter() - began)

    await asyncio.gather(*(one() for _ in range(connections)))
    seconds.sort()
    p50, p99 = (seconds[int(len(seconds) * part)] * 1000 for part in (0.5, 0.99))
    print(f"{name:24} {connections:3} {len(seconds) / SECONDS:6.0f}/s  p50 {p50:6.1f} ms  p99 {p99:6.1f} ms")


async def through_host(model: Path, body: bytes, batching: Literal["on", "off"], connections: int) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        host = await ModelHost.load(
            kept(model),
            options(prediction={"batching": batching}),
            host_context(Path(scratch)),
            hidden=[Path(scratch)],
        )
        try:
            await host.canary(PATIENCE)
            name = "alone" if batching == "off" else f"together ({host.facts['batching'].partition(':')[0]})"
            await measure(name, lambda: host.predict(body, "application/json", 60), connections)
        finally:
            await host.kill()


async def through_peer(model: Path, body: bytes, connections: int) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        sys.executable, HERE / "peer.py", str(port), model, stderr=subprocess.DEVNULL
    )
    url, headers = f"http://127.0.0.1:{port}/{model.name}/invocations", {"Content-Type": "application/json"}
    try:
        async with aiohttp.ClientSession() as session:

            async def ask() -> None:
                async with session.post(url, data=body, headers=headers) as answer:
                    await answer.read()

            while True:
                try:
                    await ask()
                    break
                except aiohttp.ClientConnectionError:
                    await asyncio.sleep(0.2)
            await measure("MLflow's server", ask, connections)
    finally:
        process.kill()
        await process.wait()


async def main(model: Path, columns: list[str]) -> None:
    body = rows(columns, [1.5] * len(columns))
    await through_host(model, body, "on", CONNECTIONS)
    await through_host(model, body, "off", CONNECTIONS)
    await through_peer(model, body, CONNECTIONS)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2:]))
