"""The table of all endpoints: the source of the routes, of their description and of their tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mlopsd.config.schema import PROBE_NAME
from mlopsd.units import DURATION
from mlopsd.web.api import schemas
from mlopsd.web.api.endpoint import (
    ACTS,
    BROKEN,
    CSV,
    HTML,
    JSON,
    NO,
    TEXT,
    TOO_SLOW,
    YES,
    Endpoint,
    Handler,
    Parameter,
    ResponseSpec,
    problem,
)

if TYPE_CHECKING:
    from mlopsd.web.api.actions import Actions
    from mlopsd.web.api.docs import Docs
    from mlopsd.web.api.health import Health
    from mlopsd.web.api.history import HistoryDocuments
    from mlopsd.web.api.info import About
    from mlopsd.web.api.openapi import Description
    from mlopsd.web.api.predictions import Predictions
    from mlopsd.web.page.status_page import StatusPage

PROBE = Parameter(
    "probe", "the probe's name", {"type": "string", "pattern": f"^{PROBE_NAME.pattern}$"}, "path"
)
MODEL = Parameter("model", "the registered model's name", {"type": "string"}, "path")
FILE = Parameter("file", "one of the page's files", {"type": "string"}, "path")
YES_OR_NO = {"type": "string", "enum": [*YES, *NO], "default": "false"}
RELOAD_PARAMETERS = (
    Parameter(
        "dry_run", "return what a reload would do; waits for the result unless `wait` is given", YES_OR_NO
    ),
    Parameter(
        "wait",
        'seconds, or text like "15s", to wait for the end; at most nine tenths of [api] request_timeout',
        {"type": "string", "pattern": DURATION, "default": "0"},
    ),
    Parameter("force", "override a refusal; this is logged", YES_OR_NO),
)
OPENMETRICS = "application/openmetrics-text"
NO_PROBE = problem(404, "no such probe is configured")
BAD_QUERY = problem(400, "a parameter is unknown, its value is invalid, or the body is broken")
REPLACED = problem(503, "the probe is being replaced", "Retry-After")
NOT_DEBUG = problem(404, "debug mode is off, or the files are not installed")


@dataclass(frozen=True, slots=True)
class Handlers:
    """The objects with the handlers of the endpoints."""

    health: Health
    history: HistoryDocuments
    actions: Actions
    about: About
    predictions: Predictions
    page: StatusPage
    docs: Docs
    description: Description


def table(handlers: Handlers) -> tuple[Endpoint, ...]:
    """Return every endpoint."""
    return (
        *_health_routes(handlers),
        _history_route(handlers.history),
        _check_route(handlers.actions),
        _reload_route(handlers.actions),
        _configuration_route(handlers.actions),
        *_prediction_routes(handlers.predictions),
        *_readiness_routes(handlers.predictions),
        *_about_routes(handlers),
        *_docs_routes(handlers.docs),
    )


def metrics_route(about: About) -> Endpoint:
    """Return the endpoint ``/metrics``, which may have a separate port."""
    pages = ResponseSpec(
        200, "Prometheus text, or OpenMetrics if Accept asks for it", None, (TEXT, OPENMETRICS)
    )
    off = problem(404, "metrics are off")
    return _polled("/metrics", "The metrics for Prometheus", about.metrics, pages, off)


def _health_routes(handlers: Handlers) -> Sequence[Endpoint]:
    health = handlers.health
    host_unwell = "unknown, unhealthy or stopping"
    verdict = _by_status(schemas.VerdictAnswer, host_unwell)
    detailed = _by_status(schemas.DetailedAnswer, host_unwell)
    reading = _by_status(schemas.ReadingAnswer, "this probe is unknown or unhealthy")
    ready = _by_state(None, "healthy or degraded", host_unwell, TEXT)
    alive = ResponseSpec(200, "it runs", None, (TEXT,))
    return (
        _polled("/health/", "The host's status", health.verdict, *verdict, aliases=("/health",)),
        _polled("/health/detailed", "The host's status and every reading", health.detailed, *detailed),
        _polled(
            "/health/{probe}",
            "The last reading of one probe",
            health.reading,
            *reading,
            NO_PROBE,
            parameters=(PROBE,),
        ),
        _polled("/readyz", "The host's status as a code", health.ready, *ready, is_open=True),
        _polled("/livez", "Whether the daemon's event loop runs", health.alive, alive, is_open=True),
    )


def _history_route(history: HistoryDocuments) -> Endpoint:
    """Return the endpoint ``/health/history``, which hides who acted from callers who may not act."""
    since = {"type": "string", "pattern": DURATION, "default": "24h"}
    return Endpoint(
        "GET",
        "/health/history",
        "The changes of the host and the requests that acted, oldest first",
        history.answer,
        (ResponseSpec(200, "the events", schemas.HistoryAnswer), BAD_QUERY, BROKEN, TOO_SLOW),
        parameters=(Parameter("since", 'how long ago: seconds, or text like "24h"', since),),
        polled=True,
    )


def _check_route(actions: Actions) -> Endpoint:
    reading = ResponseSpec(200, "its reading", schemas.ReadingAnswer)
    return Endpoint(
        "POST",
        "/health/{probe}/check",
        "Check a probe now, or join the check in flight",
        actions.check,
        (reading, BAD_QUERY, *ACTS, NO_PROBE, BROKEN, REPLACED, TOO_SLOW),
        parameters=(PROBE,),
        access="act",
    )


def _reload_route(actions: Actions) -> Endpoint:
    still_running = "it is running; the probe's reading will show the result"
    done = ResponseSpec(200, "it succeeded", schemas.ReloadAnswer)
    running = ResponseSpec(202, still_running, schemas.ReloadAnswer, (JSON,), ("Location",))
    cannot = problem(405, "this probe has nothing to reload", "Allow")
    refused = problem(409, "it was refused, it failed, or another one is running")
    return Endpoint(
        "POST",
        "/health/{probe}/reload",
        "Reload a probe; for a model, roll out the version that the registry resolves to now",
        actions.reload_probe,
        (done, running, BAD_QUERY, *ACTS, NO_PROBE, cannot, refused, BROKEN, REPLACED),
        parameters=(PROBE, *RELOAD_PARAMETERS),
        access="act",
    )


def _configuration_route(actions: Actions) -> Endpoint:
    changed = ResponseSpec(200, "what changed", schemas.ConfigurationAnswer)
    unusable = problem(409, "the configuration is invalid, and nothing changed")
    return Endpoint(
        "POST",
        "/reload",
        "Reload the configuration",
        actions.reload_configuration,
        (changed, BAD_QUERY, *ACTS, unusable, BROKEN),
        access="act",
        bounded=False,  # an interruption would leave half a configuration
    )


def _prediction_routes(predictions: Predictions) -> Sequence[Endpoint]:
    possible = (
        ResponseSpec(200, "the prediction, as `mlflow models serve` returns it"),
        problem(400, "the body is broken, or it is not a valid input for this model"),
        *ACTS,
        problem(404, "no such probe predicts, or no probe predicts at all"),
        problem(415, "the model does not accept the body's Content-Type"),
        problem(429, "too many predictions run at a time", "Retry-After"),
        problem(500, "the model failed, or an internal error of mlopsd; its log has the reason"),
        problem(503, "no version of the model is in service, or the daemon is stopping", "Retry-After"),
        problem(504, "the model took too long"),
    )
    by_default = Endpoint(
        "POST",
        "/invocations",
        "Predictions of the only model, or of the default model",
        predictions.by_default,
        possible,
        access="predict",
        takes=(JSON, CSV),
        polled=True,
        bounded=False,  # the predictor keeps its own time limit
    )
    by_probe = replace(
        by_default,
        path="/invocations/{probe}",
        summary="Predictions of this probe's model",
        handler=predictions.by_probe,
        parameters=(PROBE,),
    )
    return by_default, by_probe


def _readiness_routes(predictions: Predictions) -> Sequence[Endpoint]:
    every, not_every = "every model serves", "a model does not serve, or the daemon is stopping"
    none = problem(404, "no probe predicts")
    pong = _by_state(None, every, not_every, TEXT)
    version = ResponseSpec(200, "the version", None, (TEXT,))
    no_version = problem(404, "no probe predicts, or MLflow is not installed with mlopsd")
    live = ResponseSpec(200, "it is alive", schemas.LiveAnswer)
    ready = _by_state(schemas.ReadyAnswer, every, f"the host is not healthy or degraded, {not_every}")
    one = _by_state(schemas.ModelReadyAnswer, "it serves", "it does not serve, or the daemon is stopping")
    no_model = problem(404, "no probe predicts with this model")
    lives = "Whether the daemon is alive, by the Open Inference Protocol"
    all_is_well = "Whether every model serves and the host is well"
    serves = "Whether this registered model serves"
    return (
        _polled(
            "/ping",
            "Whether every model serves, as MLflow's server reports it",
            predictions.ping,
            *pong,
            none,
            is_open=True,
        ),
        _polled("/version", "The version of MLflow", predictions.version, version, no_version),
        _polled("/v2/health/live", lives, predictions.live, live),
        _polled("/v2/health/ready", all_is_well, predictions.ready, *ready, none),
        _polled(
            "/v2/models/{model}/ready",
            serves,
            predictions.model_ready,
            *one,
            no_model,
            parameters=(MODEL,),
        ),
    )


def _about_routes(handlers: Handlers) -> Sequence[Endpoint]:
    about, page = handlers.about, handlers.page
    facts = ResponseSpec(200, "the facts", schemas.InfoAnswer)
    root = ResponseSpec(
        200, "the page for a browser, /info for anyone else", schemas.InfoAnswer, (JSON, HTML)
    )
    same = ResponseSpec(304, "the page has not changed since this ETag, except for ages", None, (HTML,))
    description = ResponseSpec(200, "OpenAPI 3.1", None)
    page_route = _polled("/", "The status page, or /info", page.answer, root, same)
    return (
        metrics_route(about),
        _polled("/info", "The daemon about itself", about.info, facts),
        replace(page_route, bounded=False),  # only the first request waits, for the template
        Endpoint(
            "GET",
            "/openapi.json",
            "This description",
            handlers.description.answer,
            (description, BROKEN, TOO_SLOW),
        ),
    )


def _docs_routes(docs: Docs) -> Sequence[Endpoint]:
    page = (ResponseSpec(200, "the page", None, (HTML,)), NOT_DEBUG, BROKEN)
    file = (
        ResponseSpec(200, "the file", None, ("text/javascript", "text/css", "image/png")),
        NOT_DEBUG,
        BROKEN,
    )
    return (
        Endpoint("GET", "/docs", "The API in Swagger UI, in debug mode", docs.swagger, page),
        Endpoint("GET", "/docs/{file}", "A file of that page", docs.swagger_file, file, parameters=(FILE,)),
        Endpoint("GET", "/redoc", "The API in Redoc, in debug mode", docs.redoc, page),
        Endpoint("GET", "/redoc/{file}", "A file of that page", docs.redoc_file, file, parameters=(FILE,)),
    )


def _polled(
    path: str,
    summary: str,
    handler: Handler,
    *possible: ResponseSpec,
    parameters: Sequence[Parameter] = (),
    aliases: Sequence[str] = (),
    is_open: bool = False,
) -> Endpoint:
    """Return a GET that machines poll; every one can also meet an internal error."""
    every = (*possible, BROKEN)
    return Endpoint(
        "GET",
        path,
        summary,
        handler,
        every,
        parameters=parameters,
        is_open=is_open,
        polled=True,
        aliases=aliases,
    )


def _by_status(body: object, unwell: str) -> tuple[ResponseSpec, ...]:
    return _by_state(body, "healthy or degraded", unwell)


def _by_state(body: object, well: str, unwell: str, content_type: str = JSON) -> tuple[ResponseSpec, ...]:
    """Return the responses 200 and 503 with the same *body*."""
    return ResponseSpec(200, well, body, (content_type,)), ResponseSpec(
        503, unwell, body, (content_type,), ("Retry-After",)
    )
