"""Predictions and readiness, as MLflow's server and the Open Inference Protocol are asked."""

from http import HTTPStatus

from aiohttp import web

from mlopsd.config.errors import nearest
from mlopsd.config.probes import ProbeConfig, default_predictor
from mlopsd.predictor import Predictor
from mlopsd.web.api.endpoint import JSON_HEADERS, TEXT_HEADERS
from mlopsd.web.api.health import SERVING
from mlopsd.web.api.probe_routes import call_route
from mlopsd.web.api.problem import RETRY_AFTER, Problem, retry_after
from mlopsd.web.api.schemas import LiveAnswer, ModelReadyAnswer, ReadyAnswer
from mlopsd.web.context import WebContext
from mlopsd.web.jsonable import json_body

NO_PREDICTOR = "no probe that predicts is configured; add a table [probes.model] with a model"
NO_MLFLOW = "MLflow is not installed beside mlopsd; pip install 'mlopsd[model]'"


class Predictions:
    """Answers to requests for predictions and readiness."""

    def __init__(self, parts: WebContext) -> None:
        self._parts = parts

    async def by_default(self, request: web.Request) -> web.Response:
        """Return the prediction of the one predictor, or of the one with ``default = true``."""
        chosen = default_predictor(self._parts.configured)
        if chosen is None:
            raise Problem(HTTPStatus.NOT_FOUND, NO_PREDICTOR)
        return await self._predict(chosen, request)

    async def by_probe(self, request: web.Request) -> web.Response:
        """Return the prediction of the predictor in the path."""
        asked = request.match_info["probe"]
        found = {one.name: one for one in self._predictors()}
        if asked not in found:
            detail = f"no probe {asked[:60]!r} predicts; {nearest(asked[:60], found)}"
            raise Problem(HTTPStatus.NOT_FOUND, detail)
        return await self._predict(found[asked], request)

    def ping(self, _request: web.Request) -> web.Response:
        """Tell if every predictor serves, as MLflow asks."""
        return _by_state(all(map(self._serves, self._predictors())), b"\n", TEXT_HEADERS)

    def version(self, _request: web.Request) -> web.Response:
        """Return MLflow's version, as its own server would say it."""
        self._predictors()
        mlflow = self._parts.info.mlflow
        if mlflow is None:
            raise Problem(HTTPStatus.NOT_FOUND, NO_MLFLOW)
        return web.Response(body=mlflow.encode(), headers=TEXT_HEADERS)

    def live(self, _request: web.Request) -> web.Response:
        """Return an answer, which proves that the event loop turns."""
        return web.Response(body=json_body(LiveAnswer(live=True)), headers=JSON_HEADERS)

    def ready(self, _request: web.Request) -> web.Response:
        """Tell if every predictor serves and the host is well enough."""
        well = self._parts.board.verdict.status in SERVING
        ready = all(map(self._serves, self._predictors())) and well
        return _by_state(ready, json_body(ReadyAnswer(ready=ready)), JSON_HEADERS)

    def model_ready(self, request: web.Request) -> web.Response:
        """Tell if any predictor of the registered model in the path serves."""
        asked = request.match_info["model"]
        models = [(one.predicts.model, one) for one in self._predictors() if one.predicts]
        having = [one for model, one in models if model == asked]
        if not having:
            hint = nearest(asked[:60], {model for model, _ in models})
            raise Problem(HTTPStatus.NOT_FOUND, f"no probe has a model {asked[:60]!r}; {hint}")
        ready = any(map(self._serves, having))
        return _by_state(ready, json_body(ModelReadyAnswer(name=asked, ready=ready)), JSON_HEADERS)

    async def _predict(self, chosen: ProbeConfig, request: web.Request) -> web.Response:
        """Return the prediction of *chosen*, which minds its own clock.

        Raises:
            Problem: it has no prediction; or 503, it is being made or replaced.
        """
        predictor = self._live(chosen)
        if predictor is None:
            detail = f"probe {chosen.name!r} is being made or replaced; ask again"
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, detail)
        return await call_route(chosen.name, predictor.prediction_route, request, self._parts)

    def _predictors(self) -> list[ProbeConfig]:
        """Return every predictor that is configured, also one that is not made yet.

        Raises:
            Problem: 404, there is none.
        """
        found = [one for one in self._parts.configured if one.predicts]
        if not found:
            raise Problem(HTTPStatus.NOT_FOUND, NO_PREDICTOR)
        return found

    def _serves(self, one: ProbeConfig) -> bool:
        predictor = self._live(one)
        return predictor is not None and predictor.served_version is not None and not self._parts.draining

    def _live(self, one: ProbeConfig) -> Predictor | None:
        """Return the predictor itself; None while it is being made or replaced."""
        watch = self._parts.watches.get(one.name)
        return watch.predictor if watch is not None else None


def _by_state(good: bool, body: bytes, headers: dict[str, str]) -> web.Response:  # noqa: FBT001  # what it is about
    """Return *body* as 200 while all is *good*, else as 503."""
    if good:
        return web.Response(body=body, headers=headers)
    later = headers | retry_after(RETRY_AFTER)
    return web.Response(status=HTTPStatus.SERVICE_UNAVAILABLE, body=body, headers=later)
