"""A host with eight GPUs and two models, with a past, in each status; served for a browser."""

import asyncio
import json
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from mlopsd.entry import Terms
from mlopsd.format import format_time
from mlopsd.history import FILE, History
from mlopsd.predictor import RegisteredVersion, VersionFacts
from mlopsd.probe import Advice, Finding, Reading, Sample, Status
from mlopsd.trends import POINTS, SECONDS, Traffic, Trends
from mlopsd.web.server.listener import Listener
from mlopsd_probes.gpu.card import Card
from mlopsd_probes.gpu.memory import TOTAL, USED
from mlopsd_probes.gpu.power import DRAW
from mlopsd_probes.gpu.power import LIMIT as POWER_LIMIT
from mlopsd_probes.gpu.probe import GpuProbe
from mlopsd_probes.gpu.temperature import LIMIT, TEMPERATURE
from mlopsd_probes.gpu.utilization import UTILIZATION
from tests.running import GIVE_UP
from tests.web.fakes import House

STATES = ("healthy", "degraded", "unknown", "unhealthy")
MODELS = {"churn": ("7", 42, 0.018), "fraud": ("3", 8, 0.240)}  # version, requests in 30 s, seconds
GIB = 2**30
LOST = 3
XID = "gpu 3 (NVIDIA A100-SXM4-80GB, 0000:4e:00.0) had XID 79 (the GPU has fallen off the bus) once, 5 s ago"
HOT = "gpu 5 (NVIDIA A100-SXM4-80GB, 0000:90:00.0) is at 86 °C, at or above 84 °C, below 89 °C"
ECC = "gpu 6 (NVIDIA A100-SXM4-80GB, 0000:b7:00.0) had 3 uncorrected ECC errors since it was first looked at"


class Clock:
    """A steady clock that the test moves."""

    def __init__(self) -> None:
        self.now = 100_000 * SECONDS

    def __call__(self) -> float:
        return self.now


@contextmanager
def filled_host(folder: Path, state: str, **tables: Any) -> Iterator[str]:
    """The address of the page of a host in *state*."""
    ready, done, address = threading.Event(), threading.Event(), [""]

    async def serve() -> None:
        house = filled_house(folder, state, **tables)
        async with house.serving(Listener.tcp("127.0.0.1", 0)) as listener:
            address[0] = f"http://127.0.0.1:{listener.port}/"
            ready.set()
            await asyncio.to_thread(done.wait, GIVE_UP * 10)
        house.parts.history.end()

    serving = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
    serving.start()
    try:
        assert ready.wait(GIVE_UP)
        yield address[0]
    finally:
        done.set()
        serving.join(GIVE_UP)


def filled_house(folder: Path, state: str, **tables: Any) -> House:
    """The parts of a daemon on a host in *state*."""
    house, clock = House(**tables), Clock()
    house.board.enrol("gpu", "gpu", Terms(interval=15, timeout=10))
    house.board.enrol("system", "system", Terms(interval=15, timeout=10))
    for name in MODELS:
        house.board.enrol(name, "model", Terms(interval=10, timeout=5))
    trends, traffic = Trends(clock), Traffic(clock)
    assert GpuProbe.table is not None
    trends.follow({"gpu": GpuProbe.table})
    traffic.follow(MODELS)
    house.parts.trends, house.parts.traffic = trends, traffic
    for point in range(POINTS + 1):
        clock.now += SECONDS
        house.board.record("gpu", gpu_reading(point, state), 0.31)
        trends.record(house.board["gpu"])
        _predict(traffic, point)
    clock.now += SECONDS / 2
    for name in MODELS:
        house.board.record(name, model_reading(house, name, state), 0.004)
    house.board.record("system", system_reading(state), 0.002)
    _write_history(house, folder, state)
    return house


def _predict(traffic: Traffic, point: int) -> None:
    for name, (_, requests, seconds) in MODELS.items():
        for request in range(int(requests * (1.2 + math.sin(point / 7)))):
            slow = 6 if request % 40 == 0 else 1
            traffic.observe(name, seconds * slow * (1 + request % 5 / 10), has_failed=False)
    if point == POINTS // 2:
        traffic.observe("fraud", 2.0, has_failed=True)


def gpu_reading(point: int, state: str) -> Reading:
    """What the eight cards say in the half minute *point*."""
    is_now = point >= POINTS - 8
    lost = LOST if state == "unhealthy" and is_now else None
    cards = [
        Card(index, f"GPU-{index}", "NVIDIA A100-SXM4-80GB", f"0000:{index:02x}:00.0") for index in range(8)
    ]
    samples = [sample for card in cards if card.index != lost for sample in _samples(card, point)]
    findings = [
        Finding("temperature", Status.HEALTHY, f"{card.title} is at 62 °C", card.subject)
        for card in cards
        if card.index != lost
    ]
    if state == "degraded" and is_now:
        findings[5] = Finding("temperature", Status.DEGRADED, HOT, "gpu 5", 86, "celsius", 84, Advice.WATCH)
    if lost is not None:
        ecc = Finding(
            "ecc_uncorrected", Status.UNHEALTHY, ECC, "gpu 6", 3, "errors", 1, Advice.RESET_GPU, lasting=True
        )
        xid = Finding("xid", Status.UNHEALTHY, XID, "gpu 3", 79, advice=Advice.REBOOT, lasting=True)
        findings += [xid, ecc]
    on = {0: ["models:/churn/7"], 1: ["models:/churn/7"], 4: ["models:/fraud/3"]}
    facts = [
        {"index": card.index, "name": card.name, **({"models": on[card.index]} if card.index in on else {})}
        for card in cards
    ]
    return Reading(findings, samples, {"driver": "560.35.03", "gpus": facts})


def _samples(card: Card, point: int) -> list[Sample]:
    busy = max(0.0, 0.55 + 0.4 * math.sin(point / (4 + card.index)) if card.index in (0, 1, 4) else 0.03)
    used = (12 + 55 * busy) * GIB if busy > 0.03 else 0.5 * GIB
    return [
        *card.samples(UTILIZATION, busy, "compute"),
        *card.samples(USED, used),
        *card.samples(TOTAL, 80 * GIB),
        *card.samples(TEMPERATURE, 86 if card.index == 5 else 34 + 30 * busy, "gpu"),
        *card.samples(LIMIT, 89, "slowdown"),
        *card.samples(DRAW, 65 + 310 * busy),
        *card.samples(POWER_LIMIT, 400),
    ]


def model_reading(house: House, name: str, state: str) -> Reading:
    """What the probe of the model *name* says."""
    version, _, _ = MODELS[name]
    served = RegisteredVersion(version, "@champion", "https://registry.example:5000")
    since = house.board.now() - timedelta(hours=3, minutes=12)
    facts = VersionFacts(model=name, desired=served, served=served, serving_since=since)
    finding = Finding("serving", Status.HEALTHY, f"version {version} (@champion) answers")
    if name == "fraud" and state == "unknown":
        facts = VersionFacts(model=name, desired=served)
        text = "no version serves yet: no registry has answered since the start"
        finding = Finding("serving", Status.UNKNOWN, text, advice=Advice.FIX_REGISTRY)
    return Reading([finding], facts=facts.facts())


def system_reading(state: str) -> Reading:
    """What the system's probe says."""
    findings = [
        Finding("memory", Status.HEALTHY, "1.41 TB of 2.16 TB memory is available"),
        Finding("disk_space", Status.HEALTHY, "/ has 63 % free", "/"),
    ]
    if state == "degraded":
        text = "/var/lib/mlopsd has 41.2 GB free of 960 GB (4.3 %), below 5 %"
        findings[1] = Finding(
            "disk_space", Status.DEGRADED, text, "/var/lib/mlopsd", advice=Advice.FREE_RESOURCES
        )
    return Reading(findings)


def _write_history(house: House, folder: Path, state: str) -> None:
    """Write a day of changes, with a stop and a crash, and read it as a daemon does."""
    now = house.board.now()
    hot, lost = "gpu degraded: gpu 5 is at 86 °C, at or above 84 °C", "gpu unhealthy: gpu 3 had XID 79"
    changes = [
        (30.0, "health changed", "healthy", "unknown", "4 probes, all healthy"),
        (19.0, "health changed", "degraded", "healthy", hot),
        (18.2, "health changed", "healthy", "degraded", "4 probes, all healthy"),
        (11.5, "stopping", "", "", "4 probes, all healthy"),
        (11.2, "health changed", "healthy", "unknown", "4 probes, all healthy"),
        (6.0, "health changed", "unhealthy", "healthy", lost),
        (5.5, "health changed", "healthy", "unhealthy", "4 probes, all healthy"),
        (2.0, "health changed", "unknown", "healthy", "churn unknown: no answer within 5 s"),
        (1.9, "health changed", "healthy", "unknown", "4 probes, all healthy"),
    ]
    lines = [
        {"time": format_time(now - timedelta(hours=ago)), "level": "info", "event": event, "summary": summary}
        | ({"status": status, "before": before} if status else {})
        for ago, event, status, before, summary in changes
    ]
    if state != "healthy":
        lines.append(
            {"time": format_time(now), "level": "info", "event": "health changed", "status": state}
            | {"before": "healthy", "summary": house.board.verdict.summary}
        )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE).write_text("".join(f"{json.dumps(line)}\n" for line in lines), "utf-8")
    house.parts.history = History(folder)
    house.parts.history.start()
