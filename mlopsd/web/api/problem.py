"""The problem document (RFC 9457), the form of every error response."""

import math
from collections.abc import Mapping, Sequence
from http import HTTPStatus

from aiohttp import web

from mlopsd.web.api.schemas import PROBLEM_TYPE, ProblemAnswer
from mlopsd.web.jsonable import json_body

CHALLENGE = 'Bearer realm="mlopsd"'
BASIC_CHALLENGE = 'Basic realm="mlopsd", charset="UTF-8"'
RETRY_AFTER = 5.0  # seconds, if nothing better is known


class Problem(Exception):
    """The error of a request; *detail* says the cause and the fix.

    Attributes:
        status: The HTTP status.
        detail: The cause and the fix.
        headers: The headers of the response.
        mistakes: The issues of an invalid configuration, one line each.
        closes: True if the connection must be closed, because the request was not read to its end.
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
        """Return the document, with the request's id in the log."""
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
        """Return the document as a response."""
        headers = {**self.headers, "Content-Type": PROBLEM_TYPE}
        response = web.Response(
            status=self.status, body=json_body(self.document(request_id)), headers=headers
        )
        if self.closes:
            response.force_close()
        return response


def from_aiohttp(error: web.HTTPException, path: str) -> Problem:
    """Return the problem of a request for *path* without a handler, from aiohttp's error."""
    kept = {name: error.headers[name] for name in ("Allow", "Location") if name in error.headers}
    if error.status == HTTPStatus.NOT_FOUND:
        return Problem(error.status, f"no endpoint at {path}; see /info for the endpoints")
    if error.status == HTTPStatus.METHOD_NOT_ALLOWED:
        return Problem(
            error.status, f"{path} does not allow this method; use {kept.get('Allow', 'none')}", headers=kept
        )
    return Problem(error.status, error.text or error.reason, headers=kept)


def retry_after(seconds: float) -> dict[str, str]:
    """Return the header ``Retry-After``; *seconds* is rounded up to at least 1."""
    return {"Retry-After": str(max(1, math.ceil(seconds)))}


def _headers(status: int, given: Mapping[str, str]) -> dict[str, str]:
    """Return *given* with the headers that the status requires."""
    headers = dict(given)
    if status == HTTPStatus.UNAUTHORIZED:
        headers.setdefault("WWW-Authenticate", CHALLENGE)
    if status in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS):
        headers = {**retry_after(RETRY_AFTER), **headers}
    return headers
