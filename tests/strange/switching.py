"""A third party's probe with HTTP routes of its own, some of which misbehave."""

import asyncio
import json
import math
from collections.abc import Callable, Sequence
from typing import Any

from mlopsd.probe import (
    Finding,
    HttpError,
    HttpRequest,
    HttpResponse,
    Options,
    Probe,
    Reading,
    Route,
    Schedule,
    Status,
)


class SwitchOptions(Options):
    """*twice* declares a route twice."""

    twice: bool = False


class Switch(Probe[SwitchOptions]):
    """A switch for each name that it is asked for."""

    Options = SwitchOptions
    schedule = Schedule(interval=0.2, timeout=5, fail_after=1, recover_after=1)

    def check(self) -> Reading:
        return Reading([Finding("switch", Status.HEALTHY, "it switches")])

    def routes(self) -> Sequence[Route]:
        self.on: set[str] = set()
        routes = [
            Route("GET", "/switches/all", self.every, "Every switch that is on", access="read"),
            Route("GET", "/switches/{switch}", self.state, "The state of a switch", access="read"),
            Route("POST", "/switches/{switch}", self.turn, "Turn a switch on"),
            Route("POST", "/guess", self.guess, "Guess a switch", access="predict"),
            Route("POST", "/fault/{which}", self.fault, "Fail in one of many ways"),
            Route("DELETE", "/switches/{name}", self.forget, "Forget a switch"),
            Route("GET", "/slow", self.slow, "Answer in a minute", access="read"),
        ]
        return [*routes, routes[0]] if self.options.twice else routes

    async def every(self, request: HttpRequest) -> HttpResponse:
        assert request.body == b""
        return HttpResponse(json.dumps(sorted(self.on)).encode())

    async def state(self, request: HttpRequest) -> HttpResponse:
        name = request.parameters["switch"]
        if name not in self.on:
            raise HttpError(404, f"switch {name!r} is off; turn it on", retry_after=7)
        return HttpResponse(b"on\n", "text/plain", headers={"X-Switch": request.query.get("as", "plain")})

    async def turn(self, request: HttpRequest) -> HttpResponse:
        self.on.add(request.parameters["switch"])
        seen = {"type": request.content_type, "body": request.body.decode(), "headers": [*request.headers]}
        return HttpResponse(json.dumps(seen).encode(), code=201)

    async def forget(self, request: HttpRequest) -> HttpResponse:
        self.on.discard(request.parameters["name"])
        return HttpResponse(code=204)

    async def guess(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse(request.body)

    async def slow(self, request: HttpRequest) -> HttpResponse:
        await asyncio.sleep(60)
        return HttpResponse()

    async def fault(self, request: HttpRequest) -> HttpResponse:
        return FAULTS[request.parameters["which"]]()  # type: ignore[no-any-return]


def _raise(error: BaseException) -> None:
    raise error


FAULTS: dict[str, Callable[[], Any]] = {
    "error": lambda: _raise(ZeroDivisionError("a secret")),
    "exit": lambda: _raise(SystemExit(3)),
    "cancel": lambda: _raise(asyncio.CancelledError()),
    "nothing": lambda: None,
    "text": lambda: HttpResponse("text"),  # type: ignore[arg-type]
    "code": lambda: HttpResponse(code=100),
    "refusal": lambda: _raise(HttpError(200, "no refusal")),
    "split": lambda: HttpResponse(headers={"X-A": "b\r\nX-C: d"}),
    "cors": lambda: HttpResponse(headers={"Access-Control-Allow-Origin": "*"}),
    "length": lambda: HttpResponse(headers={"content-length": "1"}),
    "made_up": lambda: HttpResponse(code=299),
    "name": lambda: HttpResponse(headers={"X Y": "1"}),
    "hop": lambda: HttpResponse(headers={"Upgrade": "h2c"}),
    "bytes": lambda: _raise(HttpError(400, b"bytes")),  # type: ignore[arg-type]
    "for_ever": lambda: _raise(HttpError(503, "later", retry_after=math.inf)),
}
