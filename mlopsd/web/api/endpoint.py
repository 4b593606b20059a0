"""One thing that can be asked over HTTP: how it is asked, by whom, and everything that may be answered."""

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
    """A possible answer with one status code.

    Attributes:
        says: when this is the answer, as one sentence.
        body: the type of the JSON, or None where the body is no JSON of ours.
        content_types: the forms that the body may have.
        headers: the headers that only this answer carries.
    """

    code: int
    says: str
    body: Any = None
    content_types: Sequence[str] = (JSON,)
    headers: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of the query or, where *place* says so, of the path; *schema* is its JSON schema."""

    name: str
    says: str
    schema: Any
    place: Literal["query", "path"] = "query"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A method on a path.

    Attributes:
        handler: a plain function answers from memory at once; a coroutine has the request timeout.
        access: the rights that a caller needs; what is read is open to everybody.
        takes: the forms that the request's body may have; none where no body is wanted.
        polled: machines ask it all the time; an answer is not worth a line in the log.
        bounded: whether the request timeout ends it.
        aliases: further paths with the same answer.
    """

    method: HttpMethod
    path: str
    summary: str
    handler: Handler
    answers: Sequence[ResponseSpec]
    parameters: Sequence[Parameter] = ()
    access: Access = "read"
    takes: Sequence[str] = ()
    polled: bool = False
    bounded: bool = True
    aliases: Sequence[str] = ()

    @property
    def paths(self) -> tuple[str, ...]:
        """Every path, the one to be used first."""
        return (self.path, *self.aliases)


class EndpointRoute(web.ResourceRoute):
    """aiohttp's route to the endpoint that is counted and logged."""

    def __init__(
        self, method: str, handler: AiohttpHandler, resource: web.Resource, endpoint: Endpoint
    ) -> None:
        super().__init__(method, handler, resource)
        self.endpoint = endpoint


def problem(code: int, says: str, *headers: str) -> ResponseSpec:
    """Return the specification of an answer that is a problem document."""
    return ResponseSpec(code, says, ProblemAnswer, (PROBLEM_TYPE,), headers)


ACTS = (
    problem(401, "over TCP: the API key is missing or wrong", "WWW-Authenticate"),
    problem(403, "the caller may not act, or no API key is set"),
    problem(408, "the request's body did not arrive in time"),
    problem(413, "the request's body is larger than [api] max_body_size"),
)
TOO_SLOW = problem(504, "no answer within [api] request_timeout; what was begun goes on")
BROKEN = problem(500, "something broke in mlopsd; its log has the reason under the request's id")
