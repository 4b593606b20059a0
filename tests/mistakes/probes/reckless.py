"""Probes that harm whoever does not guard against them; one of them prints when it is imported."""

import asyncio
import sys
import threading
import time
from typing import Any

from mlopsd.predictor import Prediction, Predictor, PredictorOptions
from mlopsd.probe import (
    Context,
    Finding,
    HttpRequest,
    HttpResponse,
    Options,
    Probe,
    Reading,
    Route,
    Schedule,
    Status,
)

WELL = Finding("door", Status.HEALTHY, "the door is shut")
print("reckless is imported")


class StopsTheLoop(Probe):
    """Stops the loop of the daemon."""

    schedule = Schedule(interval=0.2)

    async def check(self) -> Reading:
        asyncio.get_running_loop().stop()
        return Reading([WELL])


class ClosesTheStreams(Probe):
    """Closes what it prints to."""

    schedule = Schedule(interval=0.2)
    checks = 0

    def check(self) -> Reading:
        sys.stdout.close()
        sys.stderr.close()
        print("closed", self.checks)
        self.checks += 1
        return Reading([WELL])


class ListOptions(Options):
    paths: list[str] = []  # noqa: RUF012  # pydantic copies it


class Appends(Probe[ListOptions]):
    """Changes its own options."""

    def check(self) -> Reading:
        self.options.paths.append("/")
        return Reading([WELL])


class HangsAtItsEnd(Probe):
    """Its finalizer never returns."""

    def check(self) -> Reading:
        return Reading([WELL])

    def __del__(self) -> None:
        time.sleep(3600)


class ShowsObjects(Probe):
    """Shows facts that are no JSON."""

    async def check(self) -> Reading:
        self.context.show_facts({"door": object()})
        return Reading([WELL])


class LosesAThread(Probe):
    """Its own thread fails, and another one never ends."""

    schedule = Schedule(interval=0.2)

    def check(self) -> Reading:
        failing = threading.Thread(target=self.fail, name="failing")
        failing.start()
        failing.join()
        threading.Thread(target=time.sleep, args=(3600,)).start()
        return Reading([WELL])

    def fail(self) -> None:
        raise RuntimeError("no door")


class LosesATask(Probe):
    """Its own task fails, and nobody awaits it."""

    schedule = Schedule(interval=0.2)

    async def check(self) -> Reading:
        asyncio.create_task(self.fail()).set_name("failing")
        await asyncio.sleep(0)
        return Reading([WELL])

    async def fail(self) -> None:
        raise RuntimeError("no door")


class RaisesMegabytes(Probe):
    """Its message has no end."""

    def check(self) -> Reading:
        raise RuntimeError("no door\n" * 500_000)


class NoVersion(Predictor):
    """Its version cannot be read."""

    def __init__(self, options: PredictorOptions, context: Context) -> None:
        super().__init__(options, context)

    @property
    def served_version(self) -> str | None:
        raise RuntimeError("no version")

    async def check(self) -> Reading:
        return Reading([WELL])

    async def predict(self, body: bytes, content_type: str) -> Prediction:
        return Prediction(body, content_type)


class NumberedVersion(NoVersion):
    """Its version is no text."""

    @property
    def served_version(self) -> Any:
        return 7


class WrongRoutes(Probe):
    """Its handlers return or raise what they must not."""

    def check(self) -> Reading:
        return Reading([WELL])

    def routes(self) -> list[Route]:
        handlers = {"raise": self.fail, "none": self.none, "text": self.text, "exit": self.exit}
        return [
            Route("GET", f"/{name}", handler, "A door", access="read") for name, handler in handlers.items()
        ]

    async def fail(self, _request: HttpRequest) -> HttpResponse:
        raise KeyError("door")

    async def none(self, _request: HttpRequest) -> Any:
        return None

    async def text(self, _request: HttpRequest) -> HttpResponse:
        return HttpResponse("text")  # type: ignore[arg-type]

    async def exit(self, _request: HttpRequest) -> HttpResponse:
        sys.exit(3)
