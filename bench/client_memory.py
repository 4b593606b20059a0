"""The memory of a registry's client, beside a program that imports MLflow as it is."""

import asyncio
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from bench.cost import Memory, memory
from bench.effort import Effort
from bench.fetch import LIMIT, mlflow_server, registered
from bench.figures import ratios, spread
from bench.server import Missing
from bench.table import ResultTable, at_most, of_rows
from mlopsd.log_limit import LogLimiter
from mlopsd.process.procfs import children
from mlopsd_probes.registry.client import ClientProcess
from mlopsd_probes.registry.options import RegistryOptions

NAME = "small"
MOST_MIB, MOST_OF_WHOLE = 100.0, 0.6
WHOLE = """
import sys
from mlflow import MlflowClient
MlflowClient(sys.argv[1], sys.argv[1]).get_registered_model(sys.argv[2])
print("asked", flush=True)
sys.stdin.read()
"""


def run(effort: Effort, room: Path) -> Iterator[ResultTable | str]:
    """Each has asked a server for a version; the client has fetched it too."""
    try:
        with mlflow_server(room) as uri:
            (registered(uri, room / "artifacts", NAME) / "weights").write_bytes(b"x" * 20_000_000)
            rounds = [asyncio.run(_client(uri, room / f"client-{number}")) for number in range(effort.rounds)]
            whole = [_whole(uri).pss for _ in range(effort.rounds)]
    except Missing as error:
        yield f"cannot measure a registry's client: {error}"
        return
    asked, fetched = ([pair[at].pss for pair in rounds] for at in (0, 1))
    ours, theirs = spread(asked, "MiB"), spread(whole, "MiB")
    rows = [
        at_most("PSS of a client that has asked for a version", ours, MOST_MIB),
        at_most("PSS of one that has fetched it too", spread(fetched, "MiB"), MOST_MIB),
        at_most("PSS of a program that imports MLflow and asks", theirs),
        at_most("PSS of the client ÷ the program's", ratios(ours, theirs), MOST_OF_WHOLE),
    ]
    yield of_rows("Memory of the client of an http registry", rows)


async def _client(uri: str, room: Path) -> tuple[Memory, Memory]:
    """Return the memory of a client that has asked, and then fetched."""
    (room / "files").mkdir(parents=True)
    log, options = logging.getLogger("bench"), RegistryOptions(uri=uri)
    client = ClientProcess(options, room / "own", LIMIT, name="bench", log=log, printed=LogLimiter())
    before = set(children(os.getpid()))
    try:
        await client.ask({"do": "resolve", "model": NAME, "candidates": ["1"]}, LIMIT)
        (pid,) = set(children(os.getpid())) - before
        asked = memory(pid)
        question = {"do": "fetch", "model": NAME, "version": "1", "folder": str(room / "files")}
        await client.ask({**question, "parallel": 4}, LIMIT)
        return asked, memory(pid)
    finally:
        await client.end()


def _whole(uri: str) -> Memory:
    command = [sys.executable, "-W", "ignore", "-c", WHOLE, uri, NAME]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        if process.stdout.readline() != b"asked\n":
            raise RuntimeError("the program that imports MLflow has not asked")
        return memory(process.pid)
