"""What a check of eight GPUs costs, what a driver that hangs costs, and what ten thousand checks leave."""

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bench.effort import Effort
from bench.figures import ratios, spread
from bench.pretended import CARDS, CHEAP, PCI_DEVICES, Pretended
from bench.server import STARTING_SECONDS, DaemonServer
from bench.table import ResultTable, Row, at_most, of_rows
from bench.web import check_now, wait_for_answer

MOST_CPU = 10.0  # ms
CYCLES = 200  # of a round
SETTLED = 1_000  # cycles
MOST_GROWTH = 1.0  # MiB
TIMEOUT = 2.0
MOST_LATE = 50.0  # ms
MOST_TO_STOP = 2.0
MOST_OF_NVIDIA_SMI = 0.1
NVIDIA_SMI = (  # the fields that the probe reports, by nvidia-smi's names
    "index,uuid,name,pci.bus_id,driver_version,vbios_version,persistence_mode,compute_mode,pstate,mig.mode.current,"
    "utilization.gpu,utilization.memory,memory.total,memory.used,memory.free,temperature.gpu,temperature.memory,"
    "power.draw,enforced.power.limit,clocks.gr,clocks.sm,clocks.mem,clocks.video,clocks.max.gr,clocks.max.sm,"
    "clocks.max.mem,clocks_throttle_reasons.active,fan.speed,ecc.mode.current,ecc.errors.corrected.volatile.total,"
    "ecc.errors.corrected.aggregate.total,ecc.errors.uncorrected.volatile.total,"
    "ecc.errors.uncorrected.aggregate.total,pcie.link.gen.current,pcie.link.gen.max,pcie.link.width.current,"
    "pcie.link.width.max"
)


def run(effort: Effort, room: Path) -> Iterator[ResultTable]:
    """One after the other."""
    yield of_rows(*_cost(effort, room))
    yield of_rows("A GPU driver that hangs, deaf to SIGTERM", list(_hung(effort, room / "hung")))
    yield of_rows("The GPU probe's memory", list(_many(effort, room / "many")))
    yield of_rows("A check of the real cards of this host", list(_real(effort, room / "real")))


def _cost(effort: Effort, room: Path) -> tuple[str, list[Row]]:
    """Run the same calls on the library as it is and on one with nearly free answers, in turn."""
    plain, cheap = Pretended(room / "plain"), Pretended(room / "cheap", CHEAP)
    rounds = [
        [_cycles(host.environment, host.scenario.parent, host.sysfs, CYCLES)[0] for host in (plain, cheap)]
        for _ in range(effort.rounds)
    ]
    assert all(one["summary"].endswith("all healthy") for pair in rounds for one in pair), rounds
    whole = spread((one["check"] for one, _ in rounds), "ms")
    alone = spread((ours["check"] for _, ours in rounds), "ms")
    frame = spread((ours["answer"] for _, ours in rounds), "ms")
    both = spread((ours["check"] + ours["answer"] for _, ours in rounds), "ms")
    library = spread((one["check"] - ours["check"] for one, ours in rounds), "ms")
    what = f"{CARDS} GPUs with 18 NVLinks each and {PCI_DEVICES} PCI devices"
    title = f"CPU of a check of {what}, {CYCLES} in a row: {rounds[0][0]['samples']} samples"
    return title, [
        at_most("a check, over the driver library of the tests", whole),
        at_most("the library's share of it", library),
        at_most("a check, beside the library", alone, MOST_CPU),
        at_most("its answer to the daemon", frame),
        at_most("both", both, MOST_CPU),
    ]


def _hung(effort: Effort, room: Path) -> Iterator[Row]:
    """Hang a call of a check for ever; then stop the daemon and let another take its port."""
    late, stops, ports = [], [], []
    for number in range(effort.rounds):
        host = Pretended(room / f"{number}")
        with DaemonServer(room / f"{number}-first", _table(host), host.environment) as daemon:
            daemon.wait_until_started()
            _check_until_healthy(daemon.socket)
            host.add("hang nvmlDeviceGetPowerUsage deaf")
            reading = check_now(daemon.socket, "gpu")
            assert reading["status"] == "unknown", reading
            late.append(1000 * (reading["duration_seconds"] - TIMEOUT))
            stops.append(daemon.stop())
        host.add("works nvmlDeviceGetPowerUsage")
        with DaemonServer(
            room / f"{number}-second", _table(host), host.environment, port=daemon.port
        ) as again:
            ports.append(wait_for_answer(again.port, "/livez") - again.began)
    yield at_most("unknown, after the timeout", spread(late, "ms"), MOST_LATE)
    yield at_most("SIGTERM to the end", spread(stops, "s"), MOST_TO_STOP)
    yield at_most("start of another on the same port to its first 200 of /livez", spread(ports, "s"))


def _check_until_healthy(path: Path) -> None:
    """Check until healthy; the first check, in a new process, may be too slow for the short timeout."""
    end = time.perf_counter() + STARTING_SECONDS
    while check_now(path, "gpu")["status"] != "healthy":
        if time.perf_counter() > end:
            raise TimeoutError(f"the GPU probe was not healthy within {STARTING_SECONDS:g} s")
        time.sleep(0.2)


def _table(host: Pretended) -> str:
    return f'[probes.gpu]\ninterval = 3600\ntimeout = {TIMEOUT}\nsysfs_path = "{host.sysfs}"\n'


def _many(effort: Effort, room: Path) -> Iterator[Row]:
    """Measure the process after a thousand checks, and at the end."""
    host = Pretended(room)
    settled, end = _cycles(
        host.environment, host.scenario.parent, host.sysfs, SETTLED, effort.many_cycles - SETTLED
    )
    more = spread([end["rss"] - settled["rss"]], "MiB")
    yield at_most(f"RSS after {SETTLED} checks", spread([settled["rss"]], "MiB"))
    yield at_most(f"RSS after {effort.many_cycles}", spread([end["rss"]], "MiB"))
    yield at_most("what was added", more, MOST_GROWTH)
    yield at_most(
        f"file descriptors, after {SETTLED}: {settled['descriptors']}",
        spread([end["descriptors"]]),
        settled["descriptors"],
    )


def _real(effort: Effort, room: Path) -> Iterator[Row]:
    """Time the probe's checks and nvidia-smi's answers with the same fields, in turn."""
    if shutil.which("nvidia-smi") is None:
        yield Row("no nvidia-smi on this host: this figure needs a real card", "")
        return
    room.mkdir(parents=True)
    ours, theirs = [], []
    for _ in range(effort.rounds):
        (reported,) = _cycles({}, room, Path("/sys"), CYCLES)
        ours.append(reported["check"] + reported["answer"])
        theirs.append(_nvidia_smi())
    check, query = spread(ours, "ms"), spread(theirs, "ms")
    yield at_most("CPU of a check with its answer, the library's included", check)
    yield at_most("CPU of one nvidia-smi --query-gpu of the same fields", query)
    yield at_most("a check ÷ nvidia-smi's", ratios(check, query), MOST_OF_NVIDIA_SMI)


def _nvidia_smi() -> float:
    """Milliseconds of CPU of one run."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = ["nvidia-smi", f"--query-gpu={NVIDIA_SMI}", "--format=csv"]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1000 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def _cycles(environment: Mapping[str, str], state: Path, sysfs: Path, *counts: int) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "bench.cycles", str(state), str(sysfs), *map(str, counts)]
    done = subprocess.run(
        command, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True, check=True
    )
    return [json.loads(line) for line in done.stdout.splitlines()]
