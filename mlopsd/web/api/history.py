"""The response with the history of the host."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, cast

from aiohttp import web

from mlopsd.format import format_time
from mlopsd.history import split_event
from mlopsd.threads import in_thread
from mlopsd.web.api.endpoint import JSON_HEADERS
from mlopsd.web.api.query import check_names, duration
from mlopsd.web.api.schemas import EventAnswer, HistoryAnswer
from mlopsd.web.context import CALLER, WebContext
from mlopsd.web.jsonable import json_body, jsonable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

DAY = 86_400.0  # seconds, the default
CENTURY = 100 * 366 * DAY
BY = "by"  # the field with the caller; only callers who may act see it


class HistoryDocuments:
    """The handler of requests for the history."""

    def __init__(self, context: WebContext) -> None:
        self._context = context

    async def answer(self, request: web.Request) -> web.Response:
        """Return the events of the last day, or since as many seconds ago as ``since`` says."""
        check_names(request, ("since",))
        ago = timedelta(seconds=min(duration(request, "since", DAY), CENTURY))
        moment = self._context.board.now() - ago
        caller = CALLER.get()
        hidden = () if caller is not None and caller.role == "act" else (BY,)
        body = await in_thread("read history", lambda: self._body(moment, hidden))
        return web.Response(body=body, headers=JSON_HEADERS)

    def _body(self, moment: datetime, hidden: Sequence[str]) -> bytes:
        kept = self._context.history.since(moment)
        events = cast("list[EventAnswer]", [split_event(event, *hidden) for event in kept])
        return json_body(jsonable(HistoryAnswer(since=format_time(moment), events=events)))
