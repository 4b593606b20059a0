"""The aiohttp applications: the whole API, and one with the metrics alone."""

import re
from collections.abc import Iterable, Sequence

from aiohttp import hdrs, web

from mlopsd.watch import ProbeReload
from mlopsd.web.access.cors import preflight_handler
from mlopsd.web.access.gate import Gate
from mlopsd.web.api.actions import Actions
from mlopsd.web.api.docs import Docs
from mlopsd.web.api.health import Health
from mlopsd.web.api.info import About
from mlopsd.web.api.openapi import Description
from mlopsd.web.api.predictions import Predictions
from mlopsd.web.api.readings import ReadingDocuments
from mlopsd.web.api.route import Route
from mlopsd.web.api.schemas import EndpointInfo
from mlopsd.web.context import WebContext
from mlopsd.web.middleware import RequestRecorder
from mlopsd.web.page.status_page import StatusPage
from mlopsd.web.routes import Handlers, metrics_route, table

BOUNDARY = web.AppKey("BOUNDARY", RequestRecorder)
PARAMETER = re.compile(r"\{(\w+)\}")
ANY_SEGMENT = r"{\1:[^/]+}"  # aiohttp's own pattern leaves out braces, which a model's name may have
ROUTES = web.AppKey("ROUTES", tuple[Route, ...])


def make_app(parts: WebContext, *, local: bool) -> web.Application:
    """Return the whole API over *parts*, which each request reads; *local* is the one on the Unix socket."""
    routes: list[Route] = []

    def reload_of(probe: str) -> ProbeReload | None:
        watch = parts.watches.get(probe)
        return watch.reload if watch is not None else None

    def debug() -> bool:
        return parts.loaded.settings.debug

    def endpoints() -> Sequence[EndpointInfo]:
        return [{"method": route.method, "path": route.path, "summary": route.summary} for route in routes]

    readings = ReadingDocuments(parts.board, reload_of)
    health = Health(parts, readings)
    about = About(parts, endpoints)
    routes += table(
        Handlers(
            health=health,
            actions=Actions(parts, health, readings),
            about=about,
            predictions=Predictions(parts),
            page=StatusPage(parts, about),
            docs=Docs(debug),
            description=Description(parts, routes),
        )
    )
    return _application(parts, routes, local=local)


def make_metrics_app(parts: WebContext) -> web.Application:
    """Return ``/metrics`` and nothing else, for a port of its own."""
    return _application(parts, (metrics_route(About(parts, list)),), local=False)


def _application(parts: WebContext, routes: Iterable[Route], *, local: bool) -> web.Application:
    boundary = RequestRecorder(parts)
    app = web.Application()
    app[BOUNDARY] = boundary
    app[ROUTES] = tuple(routes)
    gate = Gate(parts, local=local)
    for route in app[ROUTES]:
        for path in route.paths:
            resource = app.router.add_resource(PARAMETER.sub(ANY_SEGMENT, path))
            methods = ("GET", "HEAD") if route.method == "GET" else (route.method,)
            for method in methods:
                resource.add_route(method, gate.handler(route))
            resource.add_route(hdrs.METH_OPTIONS, preflight_handler(parts, methods))
            boundary.know(resource, route)
    return app
