"""Access of browser pages from other origins (CORS): only configured origins may read responses."""

from __future__ import annotations

from collections.abc import Collection, Mapping, MutableMapping
from typing import TYPE_CHECKING

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from mlopsd.web.api.problem import Problem
from mlopsd.web.context import REQUEST_ID, WebContext

if TYPE_CHECKING:
    from mlopsd.config.schema import Api

PREFLIGHT_SECONDS = 600  # that a browser may cache the response to a preflight
EXPOSED = ", ".join((REQUEST_ID, hdrs.LOCATION, hdrs.RETRY_AFTER))


def add_cors_headers(asked: Mapping[str, str], answered: MutableMapping[str, str], api: Api) -> None:
    """Add the CORS headers to *answered* if *api* allows the origin in the request headers *asked*."""
    origin = asked.get(hdrs.ORIGIN)
    if origin is not None and _is_allowed(origin, api):
        answered[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
        answered[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = EXPOSED


def preflight_handler(context: WebContext, methods: Collection[str]) -> Handler:
    """Return the handler of OPTIONS for a path that takes *methods*."""

    async def answer(request: web.Request) -> web.Response:
        api = context.loaded.settings.api
        if not api.cors_origins:
            raise web.HTTPMethodNotAllowed(request.method, methods)
        return _preflight(request.headers, methods, api)

    return answer


def _preflight(asked: Mapping[str, str], methods: Collection[str], api: Api) -> web.Response:
    """Return the response to a preflight request.

    Raises:
        Problem: 403, the origin, the method or a header is not allowed.
    """
    origin = asked.get(hdrs.ORIGIN)
    if origin is None or not _is_allowed(origin, api):
        raise _refusal("its origin is not in [api] cors_origins")
    method = asked.get(hdrs.ACCESS_CONTROL_REQUEST_METHOD)
    if method is None or method not in methods:
        raise _refusal("this path does not allow its method")
    names = [name.strip() for name in asked.get(hdrs.ACCESS_CONTROL_REQUEST_HEADERS, "").split(",")]
    allowed = (api.api_key_header, hdrs.AUTHORIZATION, hdrs.CONTENT_TYPE, REQUEST_ID)
    known = {name.lower() for name in allowed}
    if any(name and name.lower() not in known for name in names):
        raise _refusal(f"a page may send only the headers {', '.join(allowed)}")
    return web.Response(
        headers={
            hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: origin,
            hdrs.ACCESS_CONTROL_ALLOW_METHODS: method,
            hdrs.ACCESS_CONTROL_ALLOW_HEADERS: ", ".join(allowed),
            hdrs.ACCESS_CONTROL_MAX_AGE: str(PREFLIGHT_SECONDS),
        }
    )


def _is_allowed(origin: str, api: Api) -> bool:
    return origin in api.cors_origins or "*" in api.cors_origins


def _refusal(reason: str) -> Problem:
    return Problem(403, f"a page of another origin may not send this request: {reason}")
