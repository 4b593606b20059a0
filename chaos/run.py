"""One run: the daemon on its stage, callers, the observer, and fault after fault until the time is over."""

import asyncio
import json
import signal
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from chaos.daemon import DaemonProcess
from chaos.fault import FaultKind, Ground
from chaos.observer import Observer
from chaos.shapes import Shapes
from chaos.stage import PROBES, Stage
from chaos.timeline import Timeline
from chaos.traffic import CallerTraffic
from chaos.trial import Tale, Trial

FIRST_SECONDS = 120.0  # until everything is well for the first time, MLflow imported thrice
STOP_SECONDS = 2.5


class Run:
    """A run with *seed* for *seconds*, with all that it makes in *folder*."""

    def __init__(
        self, seed: int, seconds: float, folder: Path, timeline: Timeline, faults: Sequence[FaultKind]
    ) -> None:
        self._seconds = seconds
        self.timeline = timeline
        self._faults = faults
        self.tale = Tale(seed)
        self._stage = Stage(folder)
        self._daemon = DaemonProcess(
            self._stage.config, self._stage.port, self._stage.environment(), timeline
        )
        self._traffic: CallerTraffic | None = None
        self._observer: Observer | None = None

    async def play(self) -> None:
        """From the first start to the last stop; SIGTERM and Ctrl-C end it, and all that it started."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, task.cancel)
        try:
            await self._stage.set()
            supervising = loop.create_task(self._daemon.supervise())
            await asyncio.wait_for(self._daemon.listening.wait(), FIRST_SECONDS)
            await self._under_traffic()
            took = await self._daemon.stop()
            if took > STOP_SECONDS:
                self.timeline.violate("stops in time", f"{took:.1f} s after SIGTERM")
            await supervising
        finally:
            self._daemon.end()
            self._stage.strike()

    @property
    def journal(self) -> list[str]:
        """The end of what the daemons logged."""
        return list(self._daemon.tail)

    def figures(self) -> list[str]:
        """Return the numbers of requests and looks, one line each."""
        traffic, observer = self._traffic, self._observer
        if traffic is None or observer is None:
            return ["it never listened"]
        codes = traffic.codes
        slowest = ", ".join(f"{path} {seconds:.2f} s" for path, seconds in sorted(traffic.longest.items()))
        return [
            f"requests: {sum(codes.values())}; starts of the daemon: {self._daemon.starts}",
            *(f"  {what:40} {times}" for what, times in sorted(codes.items())),
            f"checks: {traffic.checks:.0f}",
            f"looks: {observer.looks}, {observer.compared} of them under a fault that must show",
            f"longest answers: {slowest}; callers late by up to {traffic.greatest_lag:.2f} s",
            f"at the first calm: {self.tale.first}; at the last: {self.tale.last}",
            f"lines logged: {self._daemon.lines}, most of them {self._daemon.events.most_common(5)}",
        ]

    async def _under_traffic(self) -> None:
        shapes = await asyncio.to_thread(self._shapes)
        traffic = CallerTraffic(self._stage.port, shapes, self.timeline, lambda: self._stage.factors)
        observer = Observer(traffic, self.timeline, PROBES)
        self._traffic, self._observer = traffic, observer
        trial = Trial(Ground(self._stage, self._daemon), observer, self.timeline, self.tale)
        self.timeline.open("host")
        loop = asyncio.get_running_loop()
        both = {loop.create_task(traffic.run()), loop.create_task(observer.run(self._stage.port))}
        try:
            await trial.until_well(FIRST_SECONDS)
            self.timeline.close("host")
            await trial.play(self._faults, self._seconds)
        finally:
            for task in both:
                task.cancel()
            await asyncio.wait(both)
            for task in both:
                if not task.cancelled():
                    task.result()

    def _shapes(self) -> Shapes:
        place = f"http://127.0.0.1:{self._stage.port}/openapi.json"
        with urllib.request.urlopen(place, timeout=60) as answer:
            return Shapes(json.loads(answer.read()))
