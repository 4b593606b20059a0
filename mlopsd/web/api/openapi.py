"""The API's description in OpenAPI 3.1, made only from the endpoints and their response types."""

from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any

from aiohttp import web
from pydantic import TypeAdapter

from mlopsd.threads import in_thread
from mlopsd.web.api.endpoint import JSON, JSON_HEADERS, READS, Endpoint, Parameter, ResponseSpec
from mlopsd.web.context import WebContext
from mlopsd.web.jsonable import json_body

HEADERS = {
    "X-Request-ID": ("the caller's id if it has the form [A-Za-z0-9._-]{1,64}, else a new one", "string"),
    "Retry-After": ("the seconds after which to retry", "integer"),
    "WWW-Authenticate": ("the accepted form of authentication", "string"),
    "Allow": ("the methods that this path allows; empty if none", "string"),
    "Location": ("the path that shows the progress", "string"),
}
ABOUT = (
    'Everyone who reaches the port may read, unless [api] reading is "key". Every request that acts is a '
    "POST: on the Unix socket it needs root, the daemon's user or its group, over TCP an API key with the "
    'role act. Predictions need the role predict, or nothing if [api] predictions is "open".'
)


class Description:
    """The handler of ``/openapi.json``. The document is made in a thread and cached until it changes."""

    def __init__(self, context: WebContext, endpoints: Callable[[], Sequence[Endpoint]]) -> None:
        self._context = context
        self._endpoints = endpoints
        self._described: object = None  # the source of the cached body
        self._body = b""

    async def answer(self, _request: web.Request) -> web.Response:
        """Return the description."""
        header, endpoints = self._context.loaded.settings.api.api_key_header, tuple(self._endpoints())
        if self._described != (header, endpoints):
            version = self._context.info.version
            body = await in_thread("describe the API", lambda: described(endpoints, version, header))
            self._described, self._body = (header, endpoints), body
        return web.Response(body=self._body, headers=JSON_HEADERS)


def describe(routes: Sequence[Endpoint], version: str, key_header: str) -> dict[str, Any]:
    """Return the document for *routes*; *key_header* is the header of API keys."""
    types = {answer.body for route in routes for answer in route.answers if answer.body is not None}
    refs, schemas = _schemas(sorted(types, key=lambda a_type: a_type.__name__))
    paths: dict[str, Any] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, refs)
    return {
        "openapi": "3.1.0",
        "info": {"title": "mlopsd", "version": version, "description": ABOUT},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "headers": {name: _header(*facts) for name, facts in HEADERS.items()},
            "securitySchemes": {
                "key": {"type": "apiKey", "in": "header", "name": key_header},
                "bearer": {"type": "http", "scheme": "bearer"},
            },
        },
    }


def described(routes: Sequence[Endpoint], version: str, key_header: str) -> bytes:
    """Return the document as JSON bytes."""
    return json_body(describe(routes, version, key_header))


def _schemas(types: Sequence[Any]) -> tuple[dict[Any, Any], dict[str, Any]]:
    """Return a reference to the schema of each of *types*, and the schemas."""
    inputs = [(a_type, "serialization", TypeAdapter(a_type)) for a_type in types]
    template = "#/components/schemas/{model}"
    found, together = TypeAdapter.json_schemas(inputs, ref_template=template)  # type: ignore[arg-type]
    return {key: schema for (key, _mode), schema in found.items()}, together.get("$defs", {})


def _operation(route: Endpoint, refs: dict[Any, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": _operation_id(route),
        "summary": route.summary,
        "responses": {str(answer.code): _response(answer, refs) for answer in _answers(route)},
    }
    if route.parameters:
        operation["parameters"] = [_parameter(parameter) for parameter in route.parameters]
    if route.takes:
        content = {content_type: _sent(content_type) for content_type in route.takes}
        operation["requestBody"] = {"required": True, "content": content}
    if route.access != "read":
        keyless: list[Any] = [{}] if route.access == "predict" else []
        operation["security"] = [{"key": []}, {"bearer": []}, *keyless]
    return operation


def _answers(route: Endpoint) -> Sequence[ResponseSpec]:
    """Return the responses of *route*, with those of the checks before every handler."""
    own = {answer.code for answer in route.answers}
    return [*route.answers, *(answer for answer in _checks(route) if answer.code not in own)]


def _checks(route: Endpoint) -> Sequence[ResponseSpec]:
    if route.access != "read":
        return ()
    return READS[:1] if route.is_open else READS


def _operation_id(route: Endpoint) -> str:
    parts = [part.strip("{}") for part in route.path.replace(".", "/").split("/") if part]
    return "_".join([route.method.lower(), *parts]) if parts else f"{route.method.lower()}_root"


def _response(answer: ResponseSpec, refs: dict[Any, Any]) -> dict[str, Any]:
    names = ("X-Request-ID", *answer.headers)
    return {
        "description": f"{HTTPStatus(answer.code).phrase}: {answer.text}",
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in names},
        "content": {
            content_type: _content(answer, content_type, refs) for content_type in answer.content_types
        },
    }


def _content(answer: ResponseSpec, content_type: str, refs: dict[Any, Any]) -> dict[str, Any]:
    if answer.body is not None and content_type.endswith("json"):
        return {"schema": refs[answer.body]}
    return _body(content_type) if content_type == JSON else {}


def _sent(content_type: str) -> dict[str, Any]:
    """Return the content of a request body; only JSON can have a schema."""
    return _body(content_type) if content_type == JSON else {}


def _body(content_type: str) -> dict[str, Any]:
    """Return the schema of a body without a type in this API."""
    return {"schema": {"type": "object" if content_type == JSON else "string"}}


def _parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": parameter.place,
        "required": parameter.place == "path",
        "description": parameter.text,
        "schema": parameter.schema,
    }


def _header(text: str, schema_type: str) -> dict[str, Any]:
    return {"description": text, "schema": {"type": schema_type}}
