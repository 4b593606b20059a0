"""The frame of every request: its id, its time, its line in the log, and the form of what went wrong."""

import logging
import random
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus

from aiohttp import hdrs, web

from mlopsd.log_limit import LogLimiter
from mlopsd.metrics.families import OTHER, method_label
from mlopsd.web.access.cors import add_cors_headers
from mlopsd.web.api.endpoint import EndpointRoute
from mlopsd.web.api.probe_routes import RouteFailed
from mlopsd.web.api.problem import Problem, from_aiohttp, retry_after
from mlopsd.web.api.schemas import PROBLEM_TYPE
from mlopsd.web.context import REQUEST_ID, WebContext
from mlopsd.web.jsonable import json_body

SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
UNMATCHED = "unmatched"
SAME_AGAIN = 60.0  # seconds in which machines that are refused alike have one line in the log
NO_ROOM = "every connection is in use ([api] max_connections); ask again"
HEADERS = {
    hdrs.SERVER: "mlopsd",
    "X-Content-Type-Options": "nosniff",
    hdrs.CACHE_CONTROL: "no-store",
}
RequestHandler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
log = logging.getLogger("mlopsd.http")


@dataclass(slots=True)
class RequestRecord:
    """One request as it is counted and logged."""

    method: str
    id: str
    started: float
    route: str = UNMATCHED
    polled: bool = False
    fault: bool = False

    @property
    def is_of_machines(self) -> bool:
        """Tell if there may be hundreds like it in a second: polls, predictions, and what a scanner tries."""
        return self.polled or self.route == UNMATCHED

    def level(self, status: int) -> int:
        """Return the level of the line: faults of ours, what people do, what machines ask all the time."""
        if self.fault and status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return logging.WARNING
        quiet = self.polled and not self.fault and self.method in ("GET", "HEAD", "POST")
        return logging.DEBUG if quiet else logging.INFO


class RequestRecorder:
    """The frame around every handler of one application."""

    def __init__(self, context: WebContext) -> None:
        self._context = context
        self._metrics = context.metrics
        self._repeats = LogLimiter(window=SAME_AGAIN)

    def around(self, application: RequestHandler) -> RequestHandler:
        """*application*, of which every answer has its request's id and is accounted for, whatever it does.

        A middleware would cost each request 4 µs more, and let what aiohttp answers before it pass by.
        """
        return partial(self._answer, application)

    async def _answer(self, application: RequestHandler, request: web.BaseRequest) -> web.StreamResponse:
        exchange = RequestRecord(
            method_label(request.method), _request_id(request.headers), time.perf_counter()
        )
        try:
            try:
                response = await application(request)
            finally:
                self._recognize(exchange, request)
        except Problem as problem:
            exchange.fault = True
            response = problem.response(exchange.id)
        except web.HTTPException as error:
            exchange.fault = True
            response = self._refusal(error, request).response(exchange.id)
        except Exception as error:  # noqa: BLE001  # the one place where a bug of ours becomes a 500
            response = self._broken(exchange, error)
        if not response.prepared:
            self._add_cors_headers(exchange, request, response)
        self._end(exchange, response)
        return response

    def refuse(self, request: web.BaseRequest, problem: Problem, error: BaseException | None) -> web.Response:
        """The answer to a request that never reached a handler, because *error* is ours or it is no HTTP."""
        exchange = RequestRecord(OTHER, _request_id(request.headers), time.perf_counter(), fault=True)
        if problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR and error is not None:
            response = self._broken(exchange, error)
        else:
            response = problem.response(exchange.id)
        self._end(exchange, response)
        return response

    def turn_away(self) -> bytes:
        """The whole answer to a connection for which there is no room; it is counted, not logged."""
        request_id = _new_id()
        self._metrics.http_request(OTHER, UNMATCHED, HTTPStatus.SERVICE_UNAVAILABLE, 0)
        body = json_body(Problem(HTTPStatus.SERVICE_UNAVAILABLE, NO_ROOM).document(request_id))
        headers = {
            **HEADERS,
            REQUEST_ID: request_id,
            hdrs.CONTENT_TYPE: PROBLEM_TYPE,
            hdrs.CONTENT_LENGTH: len(body),
            **retry_after(1),
            hdrs.CONNECTION: "close",
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return b"HTTP/1.1 503 Service Unavailable\r\n" + lines.encode() + b"\r\n" + body

    def _recognize(self, exchange: RequestRecord, request: web.BaseRequest) -> None:
        """Note the endpoint that *request* is for."""
        if isinstance(request, web.Request) and isinstance(request.match_info.route, EndpointRoute):
            endpoint = request.match_info.route.endpoint
            exchange.route, exchange.polled = endpoint.path, endpoint.polled

    def _refusal(self, error: web.HTTPException, request: web.BaseRequest) -> Problem:
        """Return what aiohttp found wrong as a problem; nothing takes OPTIONS where no origin is allowed."""
        if isinstance(error, web.HTTPMethodNotAllowed) and not self._context.loaded.settings.api.cors_origins:
            error = web.HTTPMethodNotAllowed(error.method, error.allowed_methods - {hdrs.METH_OPTIONS})
        return from_aiohttp(error, request.path)

    def _broken(self, exchange: RequestRecord, error: BaseException) -> web.Response:
        extra = {"id": exchange.id, "method": exchange.method, "route": exchange.route}
        broken = "something broke in mlopsd; its"
        if isinstance(error, RouteFailed):
            extra["probe"] = error.probe
            broken = f"probe {error.probe!r} failed to answer; mlopsd's"
        log.error("request failed", exc_info=error, extra=extra)
        self._metrics.error("http")
        exchange.fault = True
        detail = f"{broken} log has the reason under the id {exchange.id}"
        return Problem(HTTPStatus.INTERNAL_SERVER_ERROR, detail).response(exchange.id)

    def _end(self, exchange: RequestRecord, response: web.StreamResponse) -> None:
        seconds = time.perf_counter() - exchange.started
        if not response.prepared:
            self._complete(response, exchange.id)
        self._metrics.http_request(exchange.method, exchange.route, response.status, seconds)
        level, kept_back = self._worth(exchange, response.status)
        if log.isEnabledFor(level):
            fields = _fields(exchange, response.status, seconds)
            log.log(level, "request", extra=fields | ({"kept_back": kept_back} if kept_back else {}))

    def _worth(self, exchange: RequestRecord, status: int) -> tuple[int, int]:
        """Return the level of the line, and how many like it were kept back since the last."""
        level = exchange.level(status)
        if level == logging.DEBUG or not exchange.is_of_machines:
            return level, 0
        kept_back = self._repeats.worth_saying((exchange.method, exchange.route, status))
        return (logging.DEBUG, 0) if kept_back is None else (level, kept_back)

    def _complete(self, response: web.StreamResponse, request_id: str) -> None:
        headers = response.headers
        headers[REQUEST_ID] = request_id
        for name, value in HEADERS.items():
            if name not in headers:
                headers[name] = value
        if self._context.loaded.settings.api.cors_origins:
            headers.add(hdrs.VARY, hdrs.ORIGIN)

    def _add_cors_headers(
        self, exchange: RequestRecord, request: web.BaseRequest, response: web.StreamResponse
    ) -> None:
        """Let another origin read the answer of a route; a preflight has an answer of its own."""
        api = self._context.loaded.settings.api
        if api.cors_origins and exchange.route != UNMATCHED and request.method != hdrs.METH_OPTIONS:
            add_cors_headers(request.headers, response.headers, api)


def _request_id(headers: Mapping[str, str]) -> str:
    given = headers.get(REQUEST_ID)
    return given if given is not None and SANE_ID.fullmatch(given) else _new_id()


def _new_id() -> str:
    """An id that nobody has to guess; it only tells requests apart."""
    return f"{random.getrandbits(64):016x}"


def _fields(exchange: RequestRecord, status: int, seconds: float) -> dict[str, object]:
    return {
        "id": exchange.id,
        "method": exchange.method,
        "route": exchange.route,
        "status": status,
        "duration_seconds": round(seconds, 6),
    }
