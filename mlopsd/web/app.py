"""The aiohttp applications: the whole API, and one with the metrics alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from aiohttp import web

from mlopsd.web.access.gate import Gate
from mlopsd.web.api.actions import Actions
from mlopsd.web.api.docs import Docs
from mlopsd.web.api.endpoint import Endpoint
from mlopsd.web.api.health import Health
from mlopsd.web.api.info import About
from mlopsd.web.api.openapi import Description
from mlopsd.web.api.predictions import Predictions
from mlopsd.web.api.readings import ReadingDocuments
from mlopsd.web.context import WebContext
from mlopsd.web.middleware import RequestRecorder
from mlopsd.web.page.status_page import StatusPage
from mlopsd.web.resources import ProbeResource, make_resources
from mlopsd.web.routes import Handlers, metrics_route, table

if TYPE_CHECKING:
    from mlopsd.watch import ProbeReload

BOUNDARY = web.AppKey("BOUNDARY", RequestRecorder)
ROUTES = web.AppKey("ROUTES", tuple[Endpoint, ...])


def make_app(parts: WebContext, *, local: bool) -> web.Application:
    """Return the whole API over *parts*, which each request reads; *local* is the one on the Unix socket."""
    gate = Gate(parts, local=local)
    of_probes = ProbeResource(parts, gate)
    fixed: list[Endpoint] = []

    def reload_of(probe: str) -> ProbeReload | None:
        watch = parts.watches.get(probe)
        return watch.reload if watch is not None else None

    def debug() -> bool:
        return parts.loaded.settings.debug

    def endpoints() -> Sequence[Endpoint]:
        return (*fixed, *of_probes.endpoints())

    readings = ReadingDocuments(parts.board, reload_of)
    health = Health(parts, readings)
    about = About(parts, endpoints)
    fixed += table(
        Handlers(
            health=health,
            actions=Actions(parts, health, readings),
            about=about,
            predictions=Predictions(parts),
            page=StatusPage(parts, about),
            docs=Docs(debug),
            description=Description(parts, endpoints),
        )
    )
    return _application(parts, gate, fixed, of_probes)


def make_metrics_app(parts: WebContext) -> web.Application:
    """Return ``/metrics`` and nothing else, for a port of its own."""
    return _application(parts, Gate(parts, local=False), (metrics_route(About(parts, list)),))


def _application(
    context: WebContext, gate: Gate, fixed: Sequence[Endpoint], *others: web.Resource
) -> web.Application:
    app = web.Application()
    app[BOUNDARY] = RequestRecorder(context)
    app[ROUTES] = tuple(fixed)
    for resource in (*make_resources(fixed, gate, context), *others):
        app.router.register_resource(resource)
    return app
