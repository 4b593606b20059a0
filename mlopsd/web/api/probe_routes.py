"""The HTTP routes of probes as endpoints of the API, and the boundary to their handlers."""

import asyncio
import re
from http import HTTPStatus

from aiohttp import hdrs, web
from multidict import CIMultiDict

from mlopsd.probe import HttpError, HttpRequest, HttpResponse, Route
from mlopsd.web.api.endpoint import ACTS, BROKEN, TOO_SLOW, Endpoint, Parameter, ResponseSpec, problem
from mlopsd.web.api.problem import Problem, retry_after
from mlopsd.web.context import WebContext

SECRET = (hdrs.AUTHORIZATION, hdrs.PROXY_AUTHORIZATION, hdrs.COOKIE)  # beside the key's own header
TAKEN = re.compile(r"access-control-.*|connection|content-length|server|transfer-encoding|x-request-id", re.I)
LINE_END = re.compile(r"[\r\n\0]")
ANSWERS = range(200, 600)
ERRORS = frozenset(status.value for status in HTTPStatus if status >= HTTPStatus.BAD_REQUEST)
GONE = problem(404, "the probe is not configured any more")
PENDING = problem(503, "the probe is being made or replaced, or cannot be made", "Retry-After")


class RouteFailed(Exception):
    """The handler of a route raised something or returned no answer; that is the cause of this."""

    def __init__(self, probe: str) -> None:
        super().__init__(f"a route of probe {probe!r} failed")
        self.probe = probe


def make_endpoint(probe: str, route: Route, context: WebContext) -> Endpoint:
    """Return *route* of the probe named *probe* as the core knows it."""

    async def answer(request: web.Request) -> web.Response:
        return await call_route(probe, route, request, context)

    rights = () if route.access == "read" else ACTS
    late = () if route.access == "predict" else (TOO_SLOW,)
    return Endpoint(
        route.method,
        f"/probes/{probe}{route.path}",
        route.summary,
        answer,
        (ResponseSpec(200, "what the probe answers", None, ("*/*",)), *rights, GONE, BROKEN, PENDING, *late),
        parameters=[_parameter(name) for name in route.parameters],
        access=route.access,
        polled=route.access != "act",
        bounded=route.access != "predict",
    )


def _parameter(name: str) -> Parameter:
    return Parameter(name, "a part of the path, which the probe reads", {"type": "string"}, "path")


async def call_route(probe: str, route: Route, request: web.Request, context: WebContext) -> web.Response:
    """Return what the handler of *route* answers.

    Raises:
        Problem: the handler refuses.
        RouteFailed: the handler raised anything else, or returned no answer.
    """
    asked = await _request(route, request, context.loaded.settings.api.api_key_header)
    try:
        return _response(await route.handler(asked))
    except HttpError as error:
        if error.code not in ERRORS:
            raise RouteFailed(probe) from error
        later = {} if error.retry_after is None else retry_after(error.retry_after)
        raise Problem(error.code, error.detail, headers=later) from error
    except GeneratorExit:  # that is how a coroutine is closed
        raise
    except BaseException as error:  # the boundary to third-party code; SystemExit would end the loop
        if isinstance(error, asyncio.CancelledError) and _is_cancelled():
            raise
        raise RouteFailed(probe) from error


async def _request(route: Route, request: web.Request, key_header: str) -> HttpRequest:
    headers = CIMultiDict(request.headers)
    for name in (key_header, *SECRET):
        headers.popall(name, None)
    body = b"" if route.access == "read" else await request.read()
    return HttpRequest(route.method, dict(request.match_info), request.query, headers, body)


def _response(answer: object) -> web.Response:
    """Return *answer* for aiohttp.

    Raises:
        TypeError: it is no answer.
        ValueError: a part of it cannot be sent.
    """
    if not isinstance(answer, HttpResponse) or not isinstance(answer.body, bytes):
        raise TypeError(f"a route's handler returned {answer!r:.60}; return HttpResponse(body=bytes, …)")
    if answer.code not in ANSWERS:
        raise ValueError(f"a route's handler answered with the code {answer.code}; use 200 to 599")
    headers = CIMultiDict(answer.headers)
    headers[hdrs.CONTENT_TYPE] = answer.content_type
    for name, value in headers.items():
        if TAKEN.fullmatch(name) or LINE_END.search(name + value):
            raise ValueError(f"a route's handler cannot set the header {name!r:.60} to {value!r:.60}")
    return web.Response(body=answer.body, status=answer.code, headers=headers)


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
