"""The frame of every request: its id, duration, log line and error response."""

import logging
import random
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
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
from mlopsd.web.context import CALLER, REQUEST_ID, WebContext
from mlopsd.web.jsonable import json_body

SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
UNMATCHED = "unmatched"
SAME_AGAIN = 60.0  # seconds; equal requests of machines within it have one log line
NO_ROOM = "every connection is in use ([api] max_connections); try again"
HEADERS = {
    hdrs.SERVER: "mlopsd",
    "X-Content-Type-Options": "nosniff",
    hdrs.CACHE_CONTROL: "no-store",
}
RequestHandler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
log = logging.getLogger("mlopsd.http")


@dataclass(slots=True)
class RequestRecord:
    """One request, for the metrics and the log."""

    method: str
    id: str
    started: float
    fault: bool = False
    route: str = field(default=UNMATCHED, init=False)
    polled: bool = field(default=False, init=False)
    action: dict[str, object] = field(default_factory=dict, init=False)  # who asks, and on which probe

    @property
    def is_of_machines(self) -> bool:
        """Return whether hundreds like it may come per second: polls, predictions, unknown paths."""
        return self.polled or self.route == UNMATCHED

    def level(self, status: int) -> int:
        """Return the log level: WARNING for a bug, INFO for people, DEBUG for polls."""
        if self.fault and status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return logging.WARNING
        quiet = self.polled and not self.fault and self.method in ("GET", "HEAD", "POST")
        return logging.DEBUG if quiet else logging.INFO


class RequestRecorder:
    """The frame around every handler of one application."""

    def __init__(self, context: WebContext) -> None:
        self._context = context
        self._metrics = context.metrics
        self._limiter = LogLimiter(window=SAME_AGAIN)

    def around(self, application: RequestHandler) -> RequestHandler:
        """Return *application* as a handler that identifies, counts and logs every response.

        A middleware would cost 4 µs more per request and would miss the responses that aiohttp sends
        before it.
        """
        return partial(self._answer, application)

    async def _answer(self, application: RequestHandler, request: web.BaseRequest) -> web.StreamResponse:
        CALLER.set(None)  # one task serves all requests of a connection
        record = RequestRecord(
            method_label(request.method), _request_id(request.headers), time.perf_counter()
        )
        try:
            try:
                response = await application(request)
            finally:
                self._recognize(record, request)
        except Problem as problem:
            record.fault = True
            response = problem.response(record.id)
        except web.HTTPException as error:
            record.fault = True
            response = self._refusal(error, request).response(record.id)
        except Exception as error:  # noqa: BLE001  # the one place where a bug of mlopsd becomes a 500
            response = self._broken(record, error)
        if not response.prepared:
            self._add_cors_headers(record, request, response)
        self._end(record, response)
        return response

    def refuse(self, request: web.BaseRequest, problem: Problem, error: BaseException | None) -> web.Response:
        """Return the response to a request that no handler saw: it is not HTTP, or *error* is a bug."""
        record = RequestRecord(OTHER, _request_id(request.headers), time.perf_counter(), fault=True)
        if problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR and error is not None:
            response = self._broken(record, error)
        else:
            response = problem.response(record.id)
        self._end(record, response)
        return response

    def rejection(self) -> bytes:
        """Return the whole response to a connection beyond the limit. It is counted, not logged."""
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

    def _recognize(self, record: RequestRecord, request: web.BaseRequest) -> None:
        """Record the endpoint of *request*."""
        if isinstance(request, web.Request) and isinstance(request.match_info.route, EndpointRoute):
            endpoint = request.match_info.route.endpoint
            record.route, record.polled = endpoint.path, endpoint.polled
            if (caller := CALLER.get()) is not None:
                record.action = {"by": caller.name}
            if caller is not None and endpoint.access == "act":
                on = {"probe": probe} if (probe := request.match_info.get("probe")) else {}
                record.action = {**on, **record.action, "history": True}

    def _refusal(self, error: web.HTTPException, request: web.BaseRequest) -> Problem:
        """Return aiohttp's *error* as a problem; drop OPTIONS from ``Allow`` without CORS origins."""
        if isinstance(error, web.HTTPMethodNotAllowed) and not self._context.loaded.settings.api.cors_origins:
            error = web.HTTPMethodNotAllowed(error.method, error.allowed_methods - {hdrs.METH_OPTIONS})
        return from_aiohttp(error, request.path)

    def _broken(self, record: RequestRecord, error: BaseException) -> web.Response:
        extra = {"id": record.id, "method": record.method, "route": record.route}
        broken = "an internal error of mlopsd; its"
        if isinstance(error, RouteFailed):
            extra["probe"] = error.probe
            broken = f"probe {error.probe!r} returned no valid response; mlopsd's"
        log.error("request failed", exc_info=error, extra=extra)
        self._metrics.error("http")
        record.fault = True
        detail = f"{broken} log has the reason under the id {record.id}"
        return Problem(HTTPStatus.INTERNAL_SERVER_ERROR, detail).response(record.id)

    def _end(self, record: RequestRecord, response: web.StreamResponse) -> None:
        seconds = time.perf_counter() - record.started
        if not response.prepared:
            self._complete(response, record.id)
        self._metrics.http_request(record.method, record.route, response.status, seconds)
        level, repeats = self._worth(record, response.status)
        if log.isEnabledFor(level):
            fields = _fields(record, response.status, seconds)
            log.log(level, "request", extra=fields | ({"repeats": repeats} if repeats else {}))

    def _worth(self, record: RequestRecord, status: int) -> tuple[int, int]:
        """Return the level of the line, and the number of equal lines suppressed since the last."""
        level = record.level(status)
        if level == logging.DEBUG or not record.is_of_machines:
            return level, 0
        repeats = self._limiter.allow((record.method, record.route, status))
        return (logging.DEBUG, 0) if repeats is None else (level, repeats)

    def _complete(self, response: web.StreamResponse, request_id: str) -> None:
        headers = response.headers
        headers[REQUEST_ID] = request_id
        for name, value in HEADERS.items():
            if name not in headers:
                headers[name] = value
        if self._context.loaded.settings.api.cors_origins:
            headers.add(hdrs.VARY, hdrs.ORIGIN)

    def _add_cors_headers(
        self, record: RequestRecord, request: web.BaseRequest, response: web.StreamResponse
    ) -> None:
        """Let allowed origins read the response of a route. A preflight has its own response."""
        api = self._context.loaded.settings.api
        if api.cors_origins and record.route != UNMATCHED and request.method != hdrs.METH_OPTIONS:
            add_cors_headers(request.headers, response.headers, api)


def _request_id(headers: Mapping[str, str]) -> str:
    given = headers.get(REQUEST_ID)
    return given if given is not None and SANE_ID.fullmatch(given) else _new_id()


def _new_id() -> str:
    """Return a new id. It only distinguishes requests, so it need not be secret."""
    return f"{random.getrandbits(64):016x}"


def _fields(record: RequestRecord, status: int, seconds: float) -> dict[str, object]:
    return {
        **record.action,
        "id": record.id,
        "method": record.method,
        "route": record.route,
        "status": status,
        "duration_seconds": round(seconds, 6),
    }


RECORDER = web.AppKey("RECORDER", RequestRecorder)  # of an application
