"""The HTTP routes of probes as endpoints of the API, and the boundary to their handlers."""

import asyncio
import math
import re
from http import HTTPStatus

from aiohttp import hdrs, web
from multidict import CIMultiDict

from mlopsd.probe import HttpError, HttpRequest, HttpResponse, Route
from mlopsd.web.api.endpoint import ACTS, BROKEN, TOO_SLOW, Endpoint, Parameter, ResponseSpec, problem
from mlopsd.web.api.problem import Problem, retry_after
from mlopsd.web.context import WebContext

SECRET = (hdrs.AUTHORIZATION, hdrs.PROXY_AUTHORIZATION, hdrs.COOKIE)  # beside the key's own header
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110's token
TAKEN = re.compile(
    r"access-control-.*|connection|content-length|keep-alive|proxy-.*|server|te|trailer|transfer-encoding"
    r"|upgrade|x-request-id",
    re.IGNORECASE,
)
NO_SEGMENT = re.compile(r"\.{1,2}|.*[/\x00-\x1f\x7f].*", re.DOTALL)  # as ..%2f in a path decodes to
LINE_END = re.compile(r"[\r\n\0]")
ANSWERS = frozenset(status.value for status in HTTPStatus if status >= HTTPStatus.OK)
ERRORS = frozenset(status.value for status in HTTPStatus if status >= HTTPStatus.BAD_REQUEST)
GONE = problem(404, "the probe is no longer configured")
PENDING = problem(503, "the probe is being made or replaced, or cannot be made", "Retry-After")


class RouteFailed(Exception):
    """The error of a route whose handler raised or returned no response; the cause is chained."""

    def __init__(self, probe: str) -> None:
        super().__init__(f"a route of probe {probe!r} failed")
        self.probe = probe


def make_endpoint(probe: str, route: Route, context: WebContext) -> Endpoint:
    """Return the endpoint of *route* of the probe named *probe*."""

    async def answer(request: web.Request) -> web.Response:
        return await call_route(probe, route, request, context)

    rights = () if route.access == "read" else ACTS
    late = () if route.access == "predict" else (TOO_SLOW,)
    return Endpoint(
        route.method,
        f"/probes/{probe}{route.path}",
        route.summary,
        answer,
        (ResponseSpec(200, "the probe's response", None, ("*/*",)), *rights, GONE, BROKEN, PENDING, *late),
        parameters=[_parameter(name) for name in route.parameters],
        access=route.access,
        polled=route.access != "act",
        bounded=route.access != "predict",
    )


def _parameter(name: str) -> Parameter:
    return Parameter(name, "a part of the path, for the probe", {"type": "string"}, "path")


async def call_route(probe: str, route: Route, request: web.Request, context: WebContext) -> web.Response:
    """Return the response of *route*'s handler.

    Raises:
        Problem: the handler refuses, or a parameter is no segment of a path.
        RouteFailed: the handler raised anything else, or returned no answer.
    """
    if route.access != "predict":
        return await _answer(probe, route, request, context)
    began, has_failed = asyncio.get_running_loop().time(), True
    try:
        answer = await _answer(probe, route, request, context)
        has_failed = is_failure(answer.status)
    except Problem as problem:
        has_failed = is_failure(problem.status)
        raise
    finally:
        seconds = asyncio.get_running_loop().time() - began
        context.traffic.observe(probe, seconds, has_failed=has_failed)
    return answer


def is_failure(code: int) -> bool:
    """Return whether *code* says that this host did not predict. Invalid requests are the callers' faults."""
    return code >= HTTPStatus.INTERNAL_SERVER_ERROR or code == HTTPStatus.TOO_MANY_REQUESTS


async def _answer(probe: str, route: Route, request: web.Request, context: WebContext) -> web.Response:
    asked = await _request(route, request, context.loaded.settings.api.api_key_header)
    try:
        return _response(await route.handler(asked))
    except HttpError as error:
        raise _refusal(probe, error) from error
    except GeneratorExit:  # that is how a coroutine is closed
        raise
    except BaseException as error:  # the boundary to third-party code; SystemExit would end the loop
        if isinstance(error, asyncio.CancelledError) and _is_cancelled():
            raise
        raise RouteFailed(probe) from error


def _refusal(probe: str, error: HttpError) -> Problem | RouteFailed:
    """Return the problem that *error* stands for, or the failure of a handler that raises what is none."""
    seconds = error.retry_after
    is_wait = seconds is None or (isinstance(seconds, (int, float)) and math.isfinite(seconds))
    if error.code not in ERRORS or not isinstance(error.detail, str) or not is_wait:
        return RouteFailed(probe)
    return Problem(error.code, error.detail, headers={} if seconds is None else retry_after(seconds))


async def _request(route: Route, request: web.Request, key_header: str) -> HttpRequest:
    headers = CIMultiDict(request.headers)
    for name in (key_header, *SECRET):
        headers.popall(name, None)
    for name, value in request.match_info.items():
        if NO_SEGMENT.fullmatch(value):
            raise Problem(HTTPStatus.BAD_REQUEST, f"{name} is no segment of a path: {value!r:.60}")
    body = b"" if route.access == "read" else await request.read()
    return HttpRequest(route.method, dict(request.match_info), request.query, headers, body)


def _response(answer: object) -> web.Response:
    """Return *answer* as aiohttp's response.

    Raises:
        TypeError: It is not an `HttpResponse` with bytes.
        ValueError: The code or a header is not allowed.
    """
    if not isinstance(answer, HttpResponse) or not isinstance(answer.body, bytes):
        raise TypeError(f"a route's handler returned {answer!r:.60}; return HttpResponse(body=bytes, …)")
    if answer.code not in ANSWERS:
        raise ValueError(f"a route's handler answered with {answer.code}; use one of http.HTTPStatus")
    headers = CIMultiDict(answer.headers)
    headers[hdrs.CONTENT_TYPE] = answer.content_type
    for name, value in headers.items():
        if not HEADER_NAME.fullmatch(name) or TAKEN.fullmatch(name) or LINE_END.search(value):
            raise ValueError(f"a route's handler cannot set the header {name!r:.60} to {value!r:.60}")
    return web.Response(body=answer.body, status=answer.code, headers=headers)


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
