"""The aiohttp applications: the whole API, and one with the metrics alone."""

import re
from collections.abc import Iterable, Sequence

from aiohttp import web

from mlopsd.settings import Settings
from mlopsd.web.about import About
from mlopsd.web.actions import Actions
from mlopsd.web.answers import EndpointInfo
from mlopsd.web.boundary import Boundary
from mlopsd.web.cors import allow_origins
from mlopsd.web.docs import Docs
from mlopsd.web.gate import Gate
from mlopsd.web.health import Health
from mlopsd.web.openapi import Description, described
from mlopsd.web.page import StatusPage
from mlopsd.web.parts import Parts, ReloadLike
from mlopsd.web.predictions import Predictions
from mlopsd.web.readings import Readings
from mlopsd.web.route import Route
from mlopsd.web.table import Desk, metrics_route, table

BOUNDARY = web.AppKey("BOUNDARY", Boundary)
PARAMETER = re.compile(r"\{(\w+)\}")
ANY_SEGMENT = r"{\1:[^/]+}"  # aiohttp's own pattern leaves out braces, which a model's name may have
ROUTES = web.AppKey("ROUTES", tuple[Route, ...])


def make_app(parts: Parts, settings: Settings, *, local: bool) -> web.Application:
    """The whole API over *parts*; *local* is the one behind the Unix socket.

    Of *settings* only ``api.cors_origins`` and ``api.api_key_header`` are fixed in it: when they change,
    a new application is needed. Everything else is read from *parts* at each request.
    """
    routes: list[Route] = []

    def reload_of(probe: str) -> ReloadLike | None:
        watch = parts.watches().get(probe)
        return watch.reload if watch is not None else None

    def describe() -> bytes:
        return described(routes, parts.info().version, settings.api.api_key_header)

    def debug() -> bool:
        return parts.loaded().settings.debug

    def endpoints() -> Sequence[EndpointInfo]:
        return [{"method": route.method, "path": route.path, "summary": route.summary} for route in routes]

    readings = Readings(parts.board, reload_of)
    health = Health(parts, readings)
    about = About(parts, endpoints)
    routes += table(
        Desk(
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


def make_metrics_app(parts: Parts, settings: Settings) -> web.Application:
    """``/metrics`` and nothing else, for a port of its own."""
    return _application(parts, settings, (metrics_route(About(parts, list)),), local=False)


def _application(
    parts: Parts, settings: Settings, routes: Iterable[Route], *, local: bool
) -> web.Application:
    boundary = Boundary(parts.metrics, origins=bool(settings.api.cors_origins))
    app = web.Application()
    app[BOUNDARY] = boundary
    app[ROUTES] = tuple(routes)
    gate = Gate(parts, local=local)
    for route in app[ROUTES]:
        for path in route.paths:
            _register(app, boundary, path, route, gate)
    allow_origins(app, settings.api)
    return app


def _register(app: web.Application, boundary: Boundary, path: str, route: Route, gate: Gate) -> None:
    resource = app.router.add_resource(PARAMETER.sub(ANY_SEGMENT, path))
    handler = gate.handler(route)
    resource.add_route(route.method, handler)
    if route.method == "GET":
        resource.add_route("HEAD", handler)
    boundary.know(resource, route)
