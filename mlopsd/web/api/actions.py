"""The requests that act: check a probe now, reload a probe, reload the configuration."""

from __future__ import annotations

import asyncio
import logging
from http import HTTPStatus
from typing import TYPE_CHECKING

from aiohttp import web

from mlopsd.config.errors import ConfigurationError
from mlopsd.format import format_time
from mlopsd.probe import ProbeError
from mlopsd.web.api.endpoint import JSON_HEADERS
from mlopsd.web.api.problem import Problem
from mlopsd.web.api.query import check_names, duration, flag
from mlopsd.web.api.readings import is_running, reload_state
from mlopsd.web.api.schemas import ConfigurationAnswer, ReloadAnswer
from mlopsd.web.context import WebContext
from mlopsd.web.jsonable import json_body, jsonable

if TYPE_CHECKING:
    from mlopsd.watch import ProbeReload, Watch
    from mlopsd.web.api.health import Health
    from mlopsd.web.api.readings import ReadingDocuments

MOST_OF = 0.9  # of the request timeout: after it the response is "running" instead of a timeout
log = logging.getLogger("mlopsd.http")


class Actions:
    """The handlers of requests that act."""

    def __init__(self, context: WebContext, health: Health, readings: ReadingDocuments) -> None:
        self._context = context
        self._health = health
        self._readings = readings

    async def check(self, request: web.Request) -> web.Response:
        """Check a probe now or join the check in flight, and return its reading."""
        check_names(request, ())
        try:
            entry = await self._watch(request).check()
        except ProbeError as error:
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, str(error)) from error
        return web.Response(body=self._readings.one(entry) + b"\n", headers=JSON_HEADERS)

    async def reload_probe(self, request: web.Request) -> web.Response:
        """Reload a probe, and return the result if there is one within the caller's wait."""
        watch = self._watch(request)
        check_names(request, ("dry_run", "wait", "force"))
        dry_run, force = flag(request, "dry_run"), flag(request, "force")
        most = MOST_OF * self._context.loaded.settings.api.request_timeout
        wait = min(duration(request, "wait", most if dry_run else 0), most)
        reload = self._start(watch, dry_run=dry_run, force=force)
        await asyncio.wait({reload.done}, timeout=wait)
        return _reload_answer(watch.configured.name, reload, dry_run=dry_run)

    async def reload_configuration(self, request: web.Request) -> web.Response:
        """Reload the configuration, and return the changes."""
        check_names(request, ())
        try:
            changes = await self._context.reload_configuration()
        except ConfigurationError as error:
            lines = [str(mistake) for mistake in error.mistakes]
            raise Problem(HTTPStatus.CONFLICT, "\n".join(lines), mistakes=lines) from error
        answer = ConfigurationAnswer(changes=list(changes))
        return web.Response(body=json_body(jsonable(answer)), headers=JSON_HEADERS)

    def _watch(self, request: web.Request) -> Watch:
        """Return the watch of the probe in the path.

        Raises:
            Problem: 404, there is no such probe; 503, it is being replaced.
        """
        name = self._health.entry(request).probe
        watch = self._context.watches.get(name)
        if watch is None:
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, f"probe {name!r} is being replaced; try again")
        return watch

    def _start(self, watch: Watch, *, dry_run: bool, force: bool) -> ProbeReload:
        """Start a reload.

        Raises:
            Problem: 405, the probe has nothing to reload; 409, a reload is running.
        """
        name = watch.configured.name
        if not watch.can_reload:
            detail = f"probe {name!r} has nothing to reload; use POST /health/{name}/check to check it again"
            raise Problem(HTTPStatus.METHOD_NOT_ALLOWED, detail, headers={"Allow": ""})
        if is_running(watch.reload):
            detail = f"a reload of {name!r} is running; wait until GET /health/{name} shows its result"
            raise Problem(HTTPStatus.CONFLICT, detail)
        reload = watch.start_reload(dry_run=dry_run, force=force)
        if force:
            log.warning("reload forced", extra={"probe": name, "dry_run": dry_run})
        return reload


def _reload_answer(name: str, reload: ProbeReload, *, dry_run: bool) -> web.Response:
    """Return 200 for a reload that succeeded, or 202 for one that is running.

    Raises:
        Problem: 409, it was refused or failed.
    """
    current = reload_state(reload)
    if current["state"] in ("refused", "failed"):
        detail = f"cannot reload {name!r}: {current['state']}: {current['detail']}"
        raise Problem(HTTPStatus.CONFLICT, detail)
    answer = ReloadAnswer(
        probe=name,
        state="running" if current["state"] == "running" else "done",
        started_at=format_time(reload.started_at),
        dry_run=dry_run,
    )
    if "detail" in current:
        answer["detail"] = current["detail"]
    if answer["state"] == "done":
        return web.Response(body=json_body(jsonable(answer)), headers=JSON_HEADERS)
    headers = JSON_HEADERS | {"Location": f"/health/{name}"}
    return web.Response(status=HTTPStatus.ACCEPTED, body=json_body(jsonable(answer)), headers=headers)
