"""Endpoints as aiohttp resources: the core's own, and those of the running probes."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from aiohttp import hdrs, web

from mlopsd.probe import Route, has_routes
from mlopsd.web.access.cors import preflight_handler
from mlopsd.web.access.gate import Gate
from mlopsd.web.api.endpoint import Endpoint, EndpointRoute, ResponseSpec
from mlopsd.web.api.probe_routes import PENDING, make_endpoint
from mlopsd.web.api.problem import Problem
from mlopsd.web.context import WebContext

PARAMETER = re.compile(r"\{(\w+)\}")
ANY_SEGMENT = r"{\1:[^/]+}"  # aiohttp's own pattern excludes braces, which a model's name may have


def make_resources(endpoints: Iterable[Endpoint], gate: Gate, context: WebContext) -> Sequence[web.Resource]:
    """Return a resource for each path of *endpoints*, paths without parameters first."""
    by_path: dict[str, list[Endpoint]] = {}
    for endpoint in endpoints:
        for path in endpoint.paths:
            by_path.setdefault(path, []).append(endpoint)
    paths = sorted(by_path, key=lambda path: path.count("{"))
    return [_make_resource(path, by_path[path], gate, context) for path in paths]


def _make_resource(path: str, endpoints: Sequence[Endpoint], gate: Gate, context: WebContext) -> web.Resource:
    pattern = PARAMETER.sub(ANY_SEGMENT, path)
    resource = web.DynamicResource(pattern) if "{" in path else web.PlainResource(path)
    methods: dict[str, Endpoint] = {}
    for endpoint in endpoints:
        methods[endpoint.method] = endpoint
        if endpoint.method == hdrs.METH_GET:
            methods[hdrs.METH_HEAD] = endpoint
    for method, endpoint in methods.items():
        resource.register_route(EndpointRoute(method, gate.handler(endpoint), resource, endpoint))
    preflight = gate.preflight(preflight_handler(context, frozenset(methods)))
    resource.register_route(EndpointRoute(hdrs.METH_OPTIONS, preflight, resource, endpoints[0]))
    return resource


@dataclass(frozen=True, slots=True)
class _Mounted:
    """The routes of one probe, with their endpoints and resources."""

    routes: Sequence[Route]
    endpoints: Sequence[Endpoint]
    resources: Sequence[web.Resource]


class ProbeResource(web.DynamicResource):
    """Every path below ``/probes``: the routes of the probes that run at the time of the request."""

    def __init__(self, context: WebContext, gate: Gate) -> None:
        super().__init__("/probes/{probe:[^/]+}/{path:.+}")
        self._context = context
        self._gate = gate
        self._mounted: dict[str, _Mounted] = {}
        missing = Endpoint(
            "GET",
            "/probes/{probe}/{path}",
            "A route of a probe",
            _not_made,
            (ResponseSpec(200, "it"), PENDING),
        )
        self.register_route(EndpointRoute(hdrs.METH_ANY, gate.handler(missing), self, missing))

    async def resolve(self, request: web.Request) -> tuple[web.UrlMappingMatchInfo | None, set[str]]:
        """Find the route for *request*, or else the methods that its path allows."""
        _, _, name, *_ = (*request.path.split("/", 3), "", "")
        if self._is_pending(name):
            return await super().resolve(request)
        wanted = request.headers.get(hdrs.ACCESS_CONTROL_REQUEST_METHOD)
        allowed: set[str] = set()
        first: web.UrlMappingMatchInfo | None = None
        for resource in self._mount(name).resources:
            found, methods = await resource.resolve(request)
            if found is not None:
                if request.method != hdrs.METH_OPTIONS or wanted in methods:
                    return found, methods
                first = first or found
            allowed |= methods
        return first, allowed  # a preflight for a method that no route takes is refused by the first

    def endpoints(self) -> Sequence[Endpoint]:
        """Return the endpoints of every running probe."""
        return [endpoint for name in self._context.watches for endpoint in self._mount(name).endpoints]

    def _mount(self, name: str) -> _Mounted:
        """Return the routes of the probe *name*; make them again only if the probe is new."""
        watch = self._context.watches.get(name)
        routes = (watch.routes if watch is not None else None) or ()
        known = self._mounted.get(name)
        if known is None or known.routes is not routes:
            endpoints = [make_endpoint(name, route, self._context) for route in routes]
            known = _Mounted(routes, endpoints, make_resources(endpoints, self._gate, self._context))
            self._mounted = {
                other: mounted for other, mounted in self._mounted.items() if other in self._context.watches
            }
            if routes:
                self._mounted[name] = known
        return known

    def _is_pending(self, name: str) -> bool:
        """Return whether the probe *name* may have routes but has not been made."""
        watch = self._context.watches.get(name)
        is_made = watch is not None and watch.routes is not None
        return not is_made and any(
            probe.name == name and has_routes(probe.probe) for probe in self._context.configured
        )


async def _not_made(request: web.Request) -> web.StreamResponse:
    name = request.match_info["probe"]
    detail = f"probe {name!r} is being made or replaced, or cannot be made; see GET /health/{name}"
    raise Problem(503, detail)
