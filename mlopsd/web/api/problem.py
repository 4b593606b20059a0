"""A problem document (RFC 9457): the one form in which anything that went wrong is answered."""

import math
from collections.abc import Mapping, Sequence
from http import HTTPStatus

from aiohttp import web

from mlopsd.web.api.schemas import PROBLEM_TYPE, ProblemAnswer
from mlopsd.web.jsonable import json_body

CHALLENGE = 'Bearer realm="mlopsd"'
RETRY_AFTER = 5.0  # seconds, where nothing better is known


class Problem(Exception):
    """Raised by whatever answers a request when it cannot; *detail* says the cause and the cure.

    Attributes:
        mistakes: the lines of a configuration that cannot be used.
        closes: the connection cannot be used further, because its request was not read to the end.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        mistakes: Sequence[str] = (),
        closes: bool = False,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = _headers(status, headers or {})
        self.mistakes = mistakes
        self.closes = closes

    def document(self, request_id: str) -> ProblemAnswer:
        """The document, with the id under which the log has the request."""
        json_body = ProblemAnswer(
            type="about:blank",
            title=HTTPStatus(self.status).phrase,
            status=self.status,
            detail=self.detail,
            request_id=request_id,
        )
        if self.mistakes:
            json_body["mistakes"] = list(self.mistakes)
        return json_body

    def response(self, request_id: str) -> web.Response:
        """The document as an answer."""
        headers = {**self.headers, "Content-Type": PROBLEM_TYPE}
        response = web.Response(
            status=self.status, body=json_body(self.document(request_id)), headers=headers
        )
        if self.closes:
            response.force_close()
        return response


def from_aiohttp(error: web.HTTPException, path: str) -> Problem:
    """Return the problem of a request for *path* that found no handler, by what aiohttp says."""
    kept = {name: error.headers[name] for name in ("Allow", "Location") if name in error.headers}
    if error.status == HTTPStatus.NOT_FOUND:
        return Problem(error.status, f"there is nothing at {path}; see /info for what there is")
    if error.status == HTTPStatus.METHOD_NOT_ALLOWED:
        return Problem(error.status, f"{path} takes {kept.get('Allow', 'nothing')}", headers=kept)
    return Problem(error.status, error.text or error.reason, headers=kept)


def retry_after(seconds: float) -> dict[str, str]:
    """Return the header that says when to ask again."""
    return {"Retry-After": str(max(1, math.ceil(seconds)))}


def _headers(status: int, given: Mapping[str, str]) -> dict[str, str]:
    """*given*, and what its status demands besides."""
    headers = dict(given)
    if status == HTTPStatus.UNAUTHORIZED:
        headers.setdefault("WWW-Authenticate", CHALLENGE)
    if status in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS):
        headers = {**retry_after(RETRY_AFTER), **headers}
    return headers
