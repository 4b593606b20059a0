"""The responses that read the board. None of them runs a check or waits."""

from __future__ import annotations

import socket
from http import HTTPStatus
from typing import TYPE_CHECKING

from aiohttp import web

from mlopsd.config.errors import nearest
from mlopsd.format import format_time
from mlopsd.probe import Status
from mlopsd.web.api.endpoint import JSON_HEADERS, TEXT_HEADERS
from mlopsd.web.api.problem import Problem, retry_after
from mlopsd.web.api.schemas import VerdictAnswer
from mlopsd.web.context import WebContext
from mlopsd.web.jsonable import json_body, jsonable

if TYPE_CHECKING:
    from mlopsd.entry import Entry
    from mlopsd.web.api.readings import ReadingDocuments

SERVING = (Status.HEALTHY, Status.DEGRADED)
AGES_WITHIN = 0.1  # seconds for which the JSON of all readings is cached


class Health:
    """The handlers of requests about the host and its probes."""

    def __init__(self, context: WebContext, readings: ReadingDocuments) -> None:
        self._context = context
        self._readings = readings
        self._host = socket.gethostname()
        self._verdict = (-1, b"")  # the board's version, and the body at that version
        self._detailed = (-1, 0, b"")  # the same, with the time in tenths of a second

    def verdict(self, _request: web.Request) -> web.Response:
        """Return the host's status and each probe's status."""
        if self._verdict[0] != self._context.board.version:
            self._verdict = (self._context.board.version, json_body(jsonable(self._verdict_answer())))
        return self._by_verdict(self._verdict[1], JSON_HEADERS)

    def detailed(self, _request: web.Request) -> web.Response:
        """Return the host's status and every reading in full."""
        moment = int(self._context.board.clock() / AGES_WITHIN)
        if self._detailed[:2] != (self._context.board.version, moment):
            body = self._readings.detailed(self._host, self._context.info.version)
            self._detailed = (self._context.board.version, moment, body)
        return self._by_verdict(self._detailed[2], JSON_HEADERS)

    def reading(self, request: web.Request) -> web.Response:
        """Return the last reading of one probe."""
        entry = self.entry(request)
        serving = entry.status in SERVING
        headers = JSON_HEADERS if serving else JSON_HEADERS | retry_after(entry.terms.interval)
        body = self._readings.one(entry) + b"\n"
        return web.Response(status=200 if serving else 503, body=body, headers=headers)

    def ready(self, _request: web.Request) -> web.Response:
        """Return the verdict as the status code, with one word as the body."""
        if self._context.draining:
            return self._by_verdict(b"draining\n", TEXT_HEADERS)
        return self._by_verdict(f"{self._context.board.verdict.status}\n".encode(), TEXT_HEADERS)

    def alive(self, _request: web.Request) -> web.Response:
        """Return a response, which proves that the event loop runs."""
        return web.Response(body=b"alive\n", headers=TEXT_HEADERS)

    def entry(self, request: web.Request) -> Entry:
        """Return the board's entry of the probe in the path.

        Raises:
            Problem: 404, there is no such probe.
        """
        name = request.match_info["probe"]
        if name not in self._context.board:
            known = [entry.probe for entry in self._context.board]
            raise Problem(404, f"no probe {name[:60]!r} is configured; {nearest(name[:60], known)}")
        return self._context.board[name]

    def _by_verdict(self, body: bytes, headers: dict[str, str]) -> web.Response:
        if self._context.board.verdict.status in SERVING and not self._context.draining:
            return web.Response(body=body, headers=headers)
        intervals = (entry.terms.interval for entry in self._context.board)
        later = retry_after(min(intervals, default=0))
        return web.Response(status=HTTPStatus.SERVICE_UNAVAILABLE, body=body, headers=headers | later)

    def _verdict_answer(self) -> VerdictAnswer:
        verdict = self._context.board.verdict
        return {
            "status": str(verdict.status),  # type: ignore[typeddict-item]  # the enum has the same words
            "since": format_time(verdict.since),
            "summary": verdict.summary,
            "advice": str(verdict.advice),  # type: ignore[typeddict-item]  # the same
            "probes": {name: str(status) for name, status in verdict.probes.items()},  # type: ignore[misc]
        }
