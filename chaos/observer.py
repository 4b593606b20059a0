"""Looks at every probe all the time, knows which fault is in force, and says when the daemon does not."""

import asyncio
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from chaos.timeline import Timeline
from chaos.traffic import PATIENCE, SILENT, CallerTraffic

LOOK_EVERY = 0.15
GRACE = 1.0  # seconds on top of interval and timeout: for a busy machine to come round


@dataclass(slots=True)
class Truth:
    """*probe* must not be healthy from *since* on, as long as *holds*."""

    probe: str
    fault: str
    since: float
    holds: Callable[[], bool]


@dataclass(slots=True)
class LastLook:
    """The last look: statuses and facts by probe, the verdict, and when it was asked for and had."""

    asked: float = -math.inf
    at: float = -math.inf
    verdict: str = "unknown"
    readings: Mapping[str, Any] = field(default_factory=dict)


class Observer:
    """Asks ``/health/detailed`` through *traffic* and compares it with what it knows."""

    def __init__(
        self, traffic: CallerTraffic, timeline: Timeline, probes: Mapping[str, tuple[float, float]]
    ) -> None:
        self._traffic = traffic
        self._timeline = timeline
        self._probes = probes  # interval and timeout by name
        self._truths: list[Truth] = []
        self.seen = LastLook()
        self.looks = 0
        self.compared = 0

    async def run(self, port: int) -> None:
        """Look for ever."""
        limit = aiohttp.ClientTimeout(total=PATIENCE)
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", timeout=limit) as session:
            while True:
                reported = await self._traffic.ask(session, "GET", "/health/detailed")
                if reported is not None:
                    self.look(reported.body, reported.began, reported.ended)
                await asyncio.sleep(LOOK_EVERY)

    def must_show(self, probe: str, fault: str, holds: Callable[[], bool]) -> Truth:
        """From an interval and a timeout on *probe* must show *fault*, as long as *holds*."""
        interval, timeout = self._probes[probe]
        truth = Truth(probe, fault, time.monotonic() + interval + timeout + GRACE, holds)
        self._truths.append(truth)
        return truth

    def over(self, truth: Truth) -> None:
        """*truth* need no longer show."""
        self._truths.remove(truth)

    @property
    def is_well(self) -> bool:
        """Return whether the last look is recent and saw every probe healthy."""
        statuses = [reading["status"] for reading in self.seen.readings.values()]
        fresh = time.monotonic() - self.seen.asked < 2 + LOOK_EVERY
        return fresh and len(statuses) == len(self._probes) and set(statuses) == {"healthy"}

    @property
    def is_settled(self) -> bool:
        """Return whether all is well and no rollout is in progress."""
        return self.is_well and not self.loads

    @property
    def loads(self) -> bool:
        """Return whether the model's probe shows a rollout in progress."""
        return "progress" in self.seen.readings.get("model", {}).get("facts", {})

    @property
    def served(self) -> str | None:
        """The version that the model's probe says it serves."""
        facts = self.seen.readings.get("model", {}).get("facts", {})
        return (facts.get("served") or {}).get("version")

    def unwell(self) -> str:
        """Return the probes that are not healthy, with their summaries, in one line."""
        return "; ".join(
            f"{name} {reading['status']}: {reading['summary']}"
            for name, reading in self.seen.readings.items()
            if reading["status"] != "healthy"
        )

    def look(self, body: bytes, asked: float, at: float) -> None:
        """Compare the document *body*, which was asked for at *asked* and had at *at*, with what is known."""
        document = json.loads(body)
        if "probes" not in document:
            return
        readings = document["probes"]
        self._report_changes(readings)
        self.seen = LastLook(asked, at, document["status"], readings)
        self.looks += 1
        for name, reading in readings.items():
            self._judge_age(name, reading)
        for truth in self._truths:
            self._compare(truth)

    def _report_changes(self, readings: Mapping[str, Any]) -> None:
        for name, reading in readings.items():
            before = self.seen.readings.get(name, {}).get("status")
            if reading["status"] != before:
                self._timeline.note(f"    {name} is {reading['status']}: {reading['summary'][:160]}")

    def _judge_age(self, name: str, reading: Mapping[str, Any]) -> None:
        """Healthy needs evidence that is not too old, and no step of the clock makes it older or younger."""
        interval, timeout = self._probes[name]
        age = reading.get("age_seconds")
        if age is not None and age < 0:
            self._timeline.violate("ages are steady", f"{name} is {age} s old")
        if reading["status"] == "healthy" and (age is None or age > 3 * interval + timeout + 0.1):
            self._timeline.violate("no false healthy", f"{name} is healthy by a reading {age} s old")

    def _compare(self, truth: Truth) -> None:
        if self.seen.asked < truth.since or not truth.holds():
            return
        late = self._timeline.excused(SILENT, truth.since - GRACE, self.seen.at)
        if late or self.seen.readings.get(truth.probe) is None:
            return
        self.compared += 1
        status = self.seen.readings[truth.probe]["status"]
        if status == "healthy" or self.seen.verdict == "healthy":
            output = f"{truth.probe} is {status}, the verdict {self.seen.verdict}, under {truth.fault}"
            self._timeline.violate("no false healthy", output)
