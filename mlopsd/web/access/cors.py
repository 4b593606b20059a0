"""Pages of other origins that a browser lets read the answers; none unless the configuration names them."""

import aiohttp_cors
from aiohttp import hdrs, web

from mlopsd.config.schema import Api
from mlopsd.web.context import REQUEST_ID

PREFLIGHT_SECONDS = 600  # that a browser may keep the answer to its question


def allow_origins(app: web.Application, api: Api) -> None:
    """Let pages of ``api.cors_origins`` ask everything that *app* has routes for by now."""
    if not api.cors_origins:
        return
    cors = aiohttp_cors.setup(app)
    for resource in list(app.router.resources()):
        methods = sorted({route.method for route in resource})
        options = aiohttp_cors.ResourceOptions(  # type: ignore[no-untyped-call]
            allow_methods=methods,
            allow_headers=(api.api_key_header, hdrs.AUTHORIZATION, hdrs.CONTENT_TYPE, REQUEST_ID),
            expose_headers=(REQUEST_ID, hdrs.LOCATION, hdrs.RETRY_AFTER),
            max_age=PREFLIGHT_SECONDS,
        )
        cors.add(resource, dict.fromkeys(api.cors_origins, options))
