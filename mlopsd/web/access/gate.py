"""The gate before a handler: it checks the caller, the size of the body and the timeout."""

import asyncio
from http import HTTPStatus

from aiohttp import web
from aiohttp.typedefs import Handler

from mlopsd.web.access.callers import caller_name, check_actor, check_local, check_predictor, may_act
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
                return answer(request)  # type: ignore[return-value]  # a plain function

            return at_once

        async def in_time(request: web.Request) -> web.StreamResponse:
            if route.access == "read":
                self._recognize(request)
            else:
                self._check_caller(route, request)
                request = await self._read(request)
            return await self._answer(route, request)

        return in_time

    def _recognize(self, request: web.Request) -> None:
        """Name the caller of *request* if it may act."""
        if may_act(request, self._context.loaded, local=self._local):
            CALLER.set(caller_name(request, local=self._local))

    def _check_caller(self, route: Endpoint, request: web.Request) -> None:
        """Check that the caller may use *route*.

        Raises:
            Problem: 401 or 403, the caller may not.
        """
        loaded = self._context.loaded
        if route.access == "predict":
            check_predictor(request, loaded, local=self._local)
            return
        if self._local:
            check_local(request)
        else:
            check_actor(request, loaded)
        CALLER.set(caller_name(request, local=self._local))

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
