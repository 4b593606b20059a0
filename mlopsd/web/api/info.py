"""The responses about the daemon itself: facts, endpoints and metrics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from aiohttp import hdrs, web

from mlopsd.format import format_time
from mlopsd.web.api.endpoint import JSON_HEADERS, Endpoint
from mlopsd.web.api.problem import Problem
from mlopsd.web.api.schemas import ConfigurationInfo, EndpointInfo, InfoAnswer, ProbeInfo, SocketInfo, TlsInfo
from mlopsd.web.context import Info, WebContext
from mlopsd.web.jsonable import json_body, jsonable

if TYPE_CHECKING:
    from mlopsd.watch import Watch


class About:
    """The handlers of requests about the daemon. *endpoints* returns all endpoints."""

    def __init__(self, context: WebContext, endpoints: Callable[[], Sequence[Endpoint]]) -> None:
        self._context = context
        self._endpoints = endpoints

    def info(self, _request: web.Request) -> web.Response:
        """Return facts about the daemon, its configuration and its probes."""
        return web.Response(body=json_body(jsonable(self._answer())), headers=JSON_HEADERS)

    def metrics(self, request: web.Request) -> web.Response:
        """Return the metrics in the best format that the caller accepts."""
        if not self._context.loaded.settings.metrics.enabled:
            raise Problem(404, "metrics are off ([metrics] enabled = false); set it to true")
        accept = request.headers.get(hdrs.ACCEPT, "")
        page = self._context.metrics.render(accept, request.headers.get(hdrs.ACCEPT_ENCODING, ""))
        return web.Response(body=page.body, headers=page.headers)

    def _answer(self) -> InfoAnswer:
        info, certificate = self._context.info, self._context.loaded.settings.api.tls_cert
        answer: InfoAnswer = {
            "name": "mlopsd",
            "version": info.version,
            "started": format_time(info.started),
            "mode": info.mode,
            "configuration": self._configuration(),
            "socket": _socket_info(info),
            "listening": {kind: at for kind, at in self._context.places.items() if kind != "socket"},
            "probes": [_probe_info(watch) for watch in self._context.watches.values()],
            "endpoints": [_endpoint_info(endpoint) for endpoint in self._endpoints()],
        }
        if certificate is not None:
            answer["tls"] = TlsInfo(certificate=str(certificate))
            if info.tls_error is not None:
                answer["tls"]["error"] = info.tls_error
        return answer

    def _configuration(self) -> ConfigurationInfo:
        info, path = self._context.info, self._context.loaded.path
        answer = ConfigurationInfo()
        if path is not None:
            answer["file"] = str(path)
        if info.reloaded_at is not None:
            answer["reloaded_at"] = format_time(info.reloaded_at)
        if info.reload_error is not None:
            answer["error"] = info.reload_error
        if info.outdated:
            answer["outdated"] = list(info.outdated)
        return answer


def _socket_info(info: Info) -> SocketInfo:
    answer = SocketInfo(path=info.socket)
    if info.socket_error is not None:
        answer["error"] = info.socket_error
    return answer


def _endpoint_info(endpoint: Endpoint) -> EndpointInfo:
    return {"method": endpoint.method, "path": endpoint.path, "summary": endpoint.summary}


def _probe_info(watch: Watch) -> ProbeInfo:
    configured = watch.configured
    return {
        "name": configured.name,
        "plugin": configured.plugin.name,
        "distribution": configured.plugin.distribution,
        "isolation": configured.isolation,
        "critical": configured.terms.critical,
        "interval_seconds": configured.terms.interval,
        "timeout_seconds": configured.terms.timeout,
        "can_reload": watch.can_reload,
    }
