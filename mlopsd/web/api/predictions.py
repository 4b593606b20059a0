"""Predictions and readiness, by the APIs of MLflow's server and the Open Inference Protocol."""

import logging
from http import HTTPStatus

from aiohttp import web

from mlopsd.config.errors import nearest
from mlopsd.config.probes import ProbeConfig, default_predictor
from mlopsd.log_limit import LogLimiter
from mlopsd.predictor import Predictor
from mlopsd.web.api.endpoint import JSON_HEADERS, TEXT_HEADERS
from mlopsd.web.api.health import SERVING
from mlopsd.web.api.probe_routes import call_route
from mlopsd.web.api.problem import RETRY_AFTER, Problem, retry_after
from mlopsd.web.api.schemas import LiveAnswer, ModelReadyAnswer, ReadyAnswer
from mlopsd.web.context import WebContext
from mlopsd.web.jsonable import json_body

NO_PREDICTOR = "no probe that predicts is configured; add a table [probes.model] with a model"
NO_MLFLOW = "MLflow is not installed with mlopsd; pip install 'mlopsd[model]'"
log = logging.getLogger("mlopsd.http")


class Predictions:
    """The handlers of requests for predictions and readiness."""

    def __init__(self, context: WebContext) -> None:
        self._context = context
        self._failures = LogLimiter()

    async def by_default(self, request: web.Request) -> web.Response:
        """Return the prediction of the one predictor, or of the one with ``default = true``."""
        chosen = default_predictor(self._context.configured)
        if chosen is None:
            raise Problem(HTTPStatus.NOT_FOUND, NO_PREDICTOR)
        return await self._predict(chosen, request)

    async def by_probe(self, request: web.Request) -> web.Response:
        """Return the prediction of the predictor in the path."""
        asked = request.match_info["probe"]
        found = {probe.name: probe for probe in self._predictors()}
        if asked not in found:
            detail = f"no probe {asked[:60]!r} predicts; {nearest(asked[:60], found)}"
            raise Problem(HTTPStatus.NOT_FOUND, detail)
        return await self._predict(found[asked], request)

    def ping(self, _request: web.Request) -> web.Response:
        """Return 200 if every predictor serves, as MLflow's server does."""
        return _by_state(all(map(self._serves, self._predictors())), b"\n", TEXT_HEADERS)

    def version(self, _request: web.Request) -> web.Response:
        """Return MLflow's version, as MLflow's server does."""
        self._predictors()
        mlflow = self._context.info.mlflow
        if mlflow is None:
            raise Problem(HTTPStatus.NOT_FOUND, NO_MLFLOW)
        return web.Response(body=mlflow.encode(), headers=TEXT_HEADERS)

    def live(self, _request: web.Request) -> web.Response:
        """Return a response, which proves that the event loop runs."""
        return web.Response(body=json_body(LiveAnswer(live=True)), headers=JSON_HEADERS)

    def ready(self, _request: web.Request) -> web.Response:
        """Return whether every predictor serves and the host is healthy or degraded."""
        well = self._context.board.verdict.status in SERVING
        ready = all(map(self._serves, self._predictors())) and well
        return _by_state(ready, json_body(ReadyAnswer(ready=ready)), JSON_HEADERS)

    def model_ready(self, request: web.Request) -> web.Response:
        """Return whether any predictor of the registered model in the path serves."""
        asked = request.match_info["model"]
        models = [(probe.predicts.model, probe) for probe in self._predictors() if probe.predicts]
        having = [probe for model, probe in models if model == asked]
        if not having:
            hint = nearest(asked[:60], {model for model, _ in models})
            raise Problem(HTTPStatus.NOT_FOUND, f"no probe has a model {asked[:60]!r}; {hint}")
        ready = any(map(self._serves, having))
        return _by_state(ready, json_body(ModelReadyAnswer(name=asked, ready=ready)), JSON_HEADERS)

    async def _predict(self, chosen: ProbeConfig, request: web.Request) -> web.Response:
        """Return the prediction of *chosen*, which keeps its own time limit.

        Raises:
            Problem: The probe has no prediction; or 503, it is being made or replaced.
        """
        predictor = self._live(chosen)
        if predictor is None:
            detail = f"probe {chosen.name!r} is being made or replaced; try again"
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, detail)
        return await call_route(chosen.name, predictor.prediction_route, request, self._context)

    def _predictors(self) -> list[ProbeConfig]:
        """Return every configured predictor, even one that is not made yet.

        Raises:
            Problem: 404, there is none.
        """
        found = [probe for probe in self._context.configured if probe.predicts]
        if not found:
            raise Problem(HTTPStatus.NOT_FOUND, NO_PREDICTOR)
        return found

    def _serves(self, probe: ProbeConfig) -> bool:
        predictor = self._live(probe)
        return predictor is not None and self._has_version(probe, predictor) and not self._context.draining

    def _has_version(self, probe: ProbeConfig, predictor: Predictor) -> bool:
        """Return whether *predictor* names the version that it serves. If it fails, it serves none."""
        try:
            return isinstance(predictor.served_version, str)
        except Exception as error:  # the boundary to third-party code
            if self._failures.allow((probe.name, type(error))) is not None:
                log.exception("served version unknown", extra={"probe": probe.name})
            return False

    def _live(self, probe: ProbeConfig) -> Predictor | None:
        """Return the predictor itself, or None while it is being made or replaced."""
        watch = self._context.watches.get(probe.name)
        return watch.predictor if watch is not None else None


def _by_state(good: bool, body: bytes, headers: dict[str, str]) -> web.Response:  # noqa: FBT001  # the function's subject
    """Return *body* as 200 if *good*, else as 503."""
    if good:
        return web.Response(body=body, headers=headers)
    later = headers | retry_after(RETRY_AFTER)
    return web.Response(status=HTTPStatus.SERVICE_UNAVAILABLE, body=body, headers=later)
