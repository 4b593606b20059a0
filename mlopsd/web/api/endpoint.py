"""An endpoint of the HTTP API: its request, its access and its possible responses."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from aiohttp import web
from aiohttp.typedefs import Handler as AiohttpHandler

from mlopsd.probe import Access, HttpMethod
from mlopsd.web.api.schemas import PROBLEM_TYPE, ProblemAnswer

Handler = Callable[[web.Request], web.StreamResponse | Awaitable[web.StreamResponse]]
JSON = "application/json"
TEXT = "text/plain"
HTML = "text/html"
CSV = "text/csv"
JSON_HEADERS = {"Content-Type": JSON}
TEXT_HEADERS = {"Content-Type": "text/plain; charset=utf-8"}
YES = ("true", "True", "1", "yes", "")
NO = ("false", "False", "0", "no")


@dataclass(frozen=True, slots=True)
class ResponseSpec:
    """A possible response with one status code.

    Attributes:
        code: The status code.
        text: When this is the response, as one sentence.
        body: The type of the JSON, or None if the body is other content.
        content_types: The possible content types of the body.
        headers: The headers of this response alone.
    """

    code: int
    text: str
    body: Any = None
    content_types: Sequence[str] = (JSON,)
    headers: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of the query or of the path, as *place* says. *schema* is its JSON schema."""

    name: str
    text: str
    schema: Any
    place: Literal["query", "path"] = "query"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A method on a path.

    Attributes:
        method: The HTTP method.
        path: The path, with parameters in braces.
        summary: One sentence for ``/openapi.json`` and ``/info``.
        handler: A plain function, which answers from memory, or a coroutine with the request timeout.
        answers: The possible responses.
        parameters: The parameters of the path and of the query.
        access: The rights that a caller needs.
        is_open: True if it says so little that everybody may read it, by any name of the host.
        takes: The possible content types of the request body; empty without a body.
        polled: True if machines poll it: its requests are logged at DEBUG only.
        bounded: True if the request timeout applies.
        aliases: Further paths with the same response.
    """

    method: HttpMethod
    path: str
    summary: str
    handler: Handler
    answers: Sequence[ResponseSpec]
    parameters: Sequence[Parameter] = ()
    access: Access = "read"
    is_open: bool = False
    takes: Sequence[str] = ()
    polled: bool = False
    bounded: bool = True
    aliases: Sequence[str] = ()

    @property
    def paths(self) -> tuple[str, ...]:
        """Return every path, the main one first."""
        return (self.path, *self.aliases)


class EndpointRoute(web.ResourceRoute):
    """aiohttp's route, with the endpoint for the metrics and the log."""

    def __init__(
        self, method: str, handler: AiohttpHandler, resource: web.Resource, endpoint: Endpoint
    ) -> None:
        super().__init__(method, handler, resource)
        self.endpoint = endpoint


def problem(code: int, text: str, *headers: str) -> ResponseSpec:
    """Return the specification of a response that is a problem document."""
    return ResponseSpec(code, text, ProblemAnswer, (PROBLEM_TYPE,), headers)


ACTS = (
    problem(401, "over TCP: the API key is missing or wrong", "WWW-Authenticate"),
    problem(403, "the caller may not act, or no API key is set"),
    problem(408, "the request's body did not arrive in time"),
    problem(413, "the request's body is larger than [api] max_body_size"),
)
READS = (
    problem(400, "a header that decides is there twice, or the target names another host than Host"),
    problem(401, 'over TCP: the API key is missing or wrong, and [api] reading is "key"', "WWW-Authenticate"),
    problem(403, "the caller may not read, or Host is no known name of this host"),
)
TOO_SLOW = problem(504, "no answer within [api] request_timeout; the action continues")
BROKEN = problem(500, "an internal error of mlopsd; its log has the reason under the request's id")
