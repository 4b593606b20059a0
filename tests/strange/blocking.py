"""Probes that block the event loop, or that others accuse of it; imported by name."""

import asyncio
import time
from collections.abc import Sequence

from mlopsd.predictor import Prediction, Predictor, PredictorOptions
from mlopsd.probe import Finding, HttpRequest, HttpResponse, Options, Probe, Reading, Route, Status


class BlockingOptions(Options):
    """*blocks* is where it sleeps for *seconds*: in its check, reload, a task or its route."""

    blocks: str = "check"
    seconds: float = 1.2


class Blocking(Probe[BlockingOptions]):
    """Sleeps where it must not."""

    Options = BlockingOptions

    async def check(self) -> Reading:
        self.sleep_in("check")
        await asyncio.gather(self.task(), asyncio.sleep(0))
        return Reading([Finding("door", Status.HEALTHY, "the door is shut")])

    async def task(self) -> None:
        await asyncio.sleep(0)
        self.sleep_in("task")

    async def reload(self, *, dry_run: bool, force: bool) -> str:
        self.sleep_in("reload")
        return "slept"

    def routes(self) -> Sequence[Route]:
        return [Route("GET", "/sleep", self.sleep, "Sleep", access="read")]

    async def sleep(self, _request: HttpRequest) -> HttpResponse:
        self.sleep_in("route")
        return HttpResponse()

    def sleep_in(self, place: str) -> None:
        if self.options.blocks == place:
            time.sleep(self.options.seconds)


class BlockingPredictor(Predictor[PredictorOptions]):
    """Sleeps while it predicts."""

    Options = PredictorOptions

    async def check(self) -> Reading:
        return Reading([Finding("door", Status.HEALTHY, "the door is shut")])

    @property
    def served_version(self) -> str | None:
        return "1"

    async def predict(self, body: bytes, content_type: str) -> Prediction:
        time.sleep(1.2)  # noqa: ASYNC251  # the mistake
        return Prediction(body)
