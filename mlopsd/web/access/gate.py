"""The gate before a handler: it checks the caller, the size of the body and the timeout."""

import asyncio
from http import HTTPStatus

from aiohttp import web
from aiohttp.typedefs import Handler

from mlopsd.web.access.callers import identify
from mlopsd.web.access.target import check_head, check_host
from mlopsd.web.api.endpoint import Endpoint
from mlopsd.web.api.problem import Problem
from mlopsd.web.context import CALLER, WebContext


class Gate:
    """The checks before an `Endpoint`'s handler: the caller, the size of the body, and the timeout."""

    def __init__(self, context: WebContext, *, local: bool) -> None:
        self._context = context
        self._local = local

    def handler(self, route: Endpoint) -> Handler:
        """Return aiohttp's handler of *route*."""
        answer = route.handler
        if route.access == "read" and not asyncio.iscoroutinefunction(answer):

            async def at_once(request: web.Request) -> web.StreamResponse:
                self._admit(route, request)
                return answer(request)  # type: ignore[return-value]  # a plain function

            return at_once

        async def in_time(request: web.Request) -> web.StreamResponse:
            self._admit(route, request)
            if route.access != "read":
                request = await self._read(request)
            return await self._answer(route, request)

        return in_time

    def preflight(self, answer: Handler) -> Handler:
        """Return *answer* as the handler of OPTIONS, behind the checks of a request's head."""

        async def checked(request: web.Request) -> web.StreamResponse:
            check_head(request, self._context.loaded.settings.api.api_key_header)
            return await answer(request)

        return checked

    def _admit(self, route: Endpoint, request: web.Request) -> None:
        """Check that the caller may use *route*, and name it.

        Raises:
            Problem: 400, 401 or 403, the caller may not.
        """
        loaded = self._context.loaded
        api = loaded.settings.api
        check_head(request, api.api_key_header)
        if route.is_open:
            return
        caller = identify(request, loaded, route.access, local=self._local)
        if caller is None and not self._local:
            check_host(request, api.hosts)
        CALLER.set(caller)

    async def _answer(self, route: Endpoint, request: web.Request) -> web.StreamResponse:
        limit = self._context.loaded.settings.api.request_timeout if route.bounded else None
        try:
            async with asyncio.timeout(limit) as deadline:
                return await route.handler(request)  # type: ignore[misc, no-any-return]  # a coroutine
        except TimeoutError:
            if not deadline.expired():
                raise
            detail = f"no answer within {limit:g} s ([api] request_timeout); the action continues"
            raise Problem(HTTPStatus.GATEWAY_TIMEOUT, detail) from None

    async def _read(self, request: web.Request) -> web.Request:
        """Return *request* with its body in memory, so that further reads are free.

        Raises:
            Problem: 413, the body is too large; 408, it does not arrive in time; 400, it is broken.
        """
        api = self._context.loaded.settings.api
        if (request.content_length or 0) > api.max_body_size:
            raise _too_large(api.max_body_size)
        request = request.clone(client_max_size=api.max_body_size)
        try:
            async with asyncio.timeout(api.request_timeout):
                await request.read()
        except TimeoutError:
            detail = f"the body did not arrive within {api.request_timeout:g} s ([api] request_timeout)"
            raise Problem(HTTPStatus.REQUEST_TIMEOUT, detail, closes=True) from None
        except web.HTTPRequestEntityTooLarge:
            raise _too_large(api.max_body_size) from None
        except (web.RequestPayloadError, ConnectionError) as error:
            detail = "cannot read the body: it is broken or ends early; send it again"
            raise Problem(HTTPStatus.BAD_REQUEST, detail, closes=True) from error
        return request


def _too_large(limit: int) -> Problem:
    detail = f"the body is larger than {limit} bytes ([api] max_body_size); send less"
    return Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail, closes=True)
