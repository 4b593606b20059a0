"""The aiohttp applications: the whole API, and one with the metrics alone."""

import re
from collections.abc import Iterable, Sequence

from aiohttp import web

from mlopsd.config.schema import Settings
from mlopsd.watch import ProbeReload
from mlopsd.web.access.cors import allow_origins
from mlopsd.web.access.gate import Gate
from mlopsd.web.api.actions import Actions
from mlopsd.web.api.docs import Docs
from mlopsd.web.api.health import Health
from mlopsd.web.api.info import About
from mlopsd.web.api.openapi import Description, described
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


def make_app(parts: WebContext, settings: Settings, *, local: bool) -> web.Application:
    """The whole API over *parts*; *local* is the one behind the Unix socket.

    Of *settings* only ``api.cors_origins`` and ``api.api_key_header`` are fixed in it: when they change,
    a new application is needed. Everything else is read from *parts* at each request.
    """
    routes: list[Route] = []

    def reload_of(probe: str) -> ProbeReload | None:
        watch = parts.watches.get(probe)
        return watch.reload if watch is not None else None

    def describe() -> bytes:
        return described(routes, parts.info.version, settings.api.api_key_header)

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
            description=Description(describe),
        )
    )
    return _application(parts, settings, routes, local=local)


def make_metrics_app(parts: WebContext, settings: Settings) -> web.Application:
    """``/metrics`` and nothing else, for a port of its own."""
    return _application(parts, settings, (metrics_route(About(parts, list)),), local=False)


def _application(
    parts: WebContext, settings: Settings, routes: Iterable[Route], *, local: bool
) -> web.Application:
    boundary = RequestRecorder(parts.metrics, origins=bool(settings.api.cors_origins))
    app = web.Application()
    app[BOUNDARY] = boundary
    app[ROUTES] = tuple(routes)
    gate = Gate(parts, local=local)
    for route in app[ROUTES]:
        for path in route.paths:
            _register(app, boundary, path, route, gate)
    allow_origins(app, settings.api)
    return app


def _register(app: web.Application, boundary: RequestRecorder, path: str, route: Route, gate: Gate) -> None:
    resource = app.router.add_resource(PARAMETER.sub(ANY_SEGMENT, path))
    handler = gate.handler(route)
    resource.add_route(route.method, handler)
    if route.method == "GET":
        resource.add_route("HEAD", handler)
    boundary.know(resource, route)
