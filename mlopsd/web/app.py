"""The aiohttp applications: the whole API, and one with only the metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from aiohttp import web

from mlopsd.web.access.gate import Gate
from mlopsd.web.api.actions import Actions
from mlopsd.web.api.docs import Docs
from mlopsd.web.api.endpoint import Endpoint
from mlopsd.web.api.health import Health
from mlopsd.web.api.history import HistoryDocuments
from mlopsd.web.api.info import About
from mlopsd.web.api.numbers import numbers_of
from mlopsd.web.api.openapi import Description
from mlopsd.web.api.predictions import Predictions
from mlopsd.web.api.readings import ReadingDocuments
from mlopsd.web.context import WebContext
from mlopsd.web.middleware import RECORDER, RequestRecorder
from mlopsd.web.page.status_page import StatusPage
from mlopsd.web.resources import ProbeResource, make_resources
from mlopsd.web.routes import Handlers, metrics_route, table

if TYPE_CHECKING:
    from mlopsd.entry import Entry
    from mlopsd.watch import ProbeReload
    from mlopsd.web.api.schemas import NumberAnswer

ROUTES = web.AppKey("ROUTES", tuple[Endpoint, ...])


def make_app(context: WebContext, *, local: bool) -> web.Application:
    """Return the whole API; each request reads *context*. *local* is true for the Unix socket."""
    gate = Gate(context, local=local)
    of_probes = ProbeResource(context, gate)
    fixed: list[Endpoint] = []

    def reload_of(probe: str) -> ProbeReload | None:
        watch = context.watches.get(probe)
        return watch.reload if watch is not None else None

    def debug() -> bool:
        return context.loaded.settings.debug

    def endpoints() -> Sequence[Endpoint]:
        return (*fixed, *of_probes.endpoints())

    def numbers(entry: Entry) -> list[NumberAnswer]:
        return numbers_of(entry, context.trends, context.traffic)

    readings = ReadingDocuments(context.board, reload_of, numbers)
    health = Health(context, readings)
    about = About(context, endpoints)
    fixed += table(
        Handlers(
            health=health,
            history=HistoryDocuments(context),
            actions=Actions(context, health, readings),
            about=about,
            predictions=Predictions(context),
            page=StatusPage(context, about),
            docs=Docs(debug),
            description=Description(context, endpoints),
        )
    )
    return _application(context, gate, fixed, of_probes)


def make_metrics_app(context: WebContext) -> web.Application:
    """Return an application with only ``/metrics``, for a separate port."""
    return _application(context, Gate(context, local=False), (metrics_route(About(context, list)),))


def _application(
    context: WebContext, gate: Gate, fixed: Sequence[Endpoint], *others: web.Resource
) -> web.Application:
    app = web.Application()
    app[RECORDER] = RequestRecorder(context)
    app[ROUTES] = tuple(fixed)
    for resource in (*make_resources(fixed, gate, context), *others):
        app.router.register_resource(resource)
    return app
