"""The answers that act: check a probe now, reload a probe, read the configuration anew."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING

from aiohttp import web

from mlopsd.config.errors import ConfigurationError, nearest
from mlopsd.format import format_time
from mlopsd.probe import ProbeError
from mlopsd.units import seconds
from mlopsd.web.api.endpoint import JSON_HEADERS, NO, YES
from mlopsd.web.api.problem import Problem
from mlopsd.web.api.readings import is_running, reload_state
from mlopsd.web.api.schemas import ConfigurationAnswer, ReloadAnswer
from mlopsd.web.context import WebContext
from mlopsd.web.jsonable import json_body, jsonable

if TYPE_CHECKING:
    from mlopsd.watch import ProbeReload, Watch
    from mlopsd.web.api.health import Health
    from mlopsd.web.api.readings import ReadingDocuments

MOST_OF = 0.9  # of the request timeout: a longer wait is answered with "still running" and not cut off
log = logging.getLogger("mlopsd.http")


class Actions:
    """Answers requests to do something."""

    def __init__(self, parts: WebContext, health: Health, readings: ReadingDocuments) -> None:
        self._parts = parts
        self._health = health
        self._readings = readings

    async def check(self, request: web.Request) -> web.Response:
        """Check a probe now, or join the check in flight; its reading."""
        check_names(request, ())
        try:
            entry = await self._watch(request).check()
        except ProbeError as error:
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, str(error)) from error
        return web.Response(body=self._readings.one(entry) + b"\n", headers=JSON_HEADERS)

    async def reload_probe(self, request: web.Request) -> web.Response:
        """Reload a probe; how that ended, if it ended while the caller would wait."""
        watch = self._watch(request)
        check_names(request, ("dry_run", "wait", "force"))
        dry_run, force = flag(request, "dry_run"), flag(request, "force")
        most = MOST_OF * self._parts.loaded.settings.api.request_timeout
        wait = min(duration(request, "wait", most if dry_run else 0), most)
        reload = self._start(watch, dry_run=dry_run, force=force)
        await asyncio.wait({reload.done}, timeout=wait)
        return _reload_answer(watch.configured.name, reload, dry_run=dry_run)

    async def reload_configuration(self, request: web.Request) -> web.Response:
        """Read the configuration anew; what changed."""
        check_names(request, ())
        try:
            changes = await self._parts.reload_configuration()
        except ConfigurationError as error:
            lines = [str(mistake) for mistake in error.mistakes]
            raise Problem(HTTPStatus.CONFLICT, "\n".join(lines), mistakes=lines) from error
        answer = ConfigurationAnswer(changes=list(changes))
        return web.Response(body=json_body(jsonable(answer)), headers=JSON_HEADERS)

    def _watch(self, request: web.Request) -> Watch:
        """The watch of the probe in the path.

        Raises:
            Problem: 404, there is no such probe; 503, it is on the board but is being replaced.
        """
        name = self._health.entry(request).probe
        watch = self._parts.watches.get(name)
        if watch is None:
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, f"probe {name!r} is being replaced; ask again")
        return watch

    def _start(self, watch: Watch, *, dry_run: bool, force: bool) -> ProbeReload:
        """Begin to reload.

        Raises:
            Problem: 405, the probe has nothing to reload; 409, a reload is running.
        """
        name = watch.configured.name
        if not watch.can_reload:
            detail = f"probe {name!r} has nothing to reload; POST /health/{name}/check looks again"
            raise Problem(HTTPStatus.METHOD_NOT_ALLOWED, detail, headers={"Allow": ""})
        if is_running(watch.reload):
            detail = f"a reload of {name!r} is running; wait for its end, GET /health/{name} shows it"
            raise Problem(HTTPStatus.CONFLICT, detail)
        reload = watch.start_reload(dry_run=dry_run, force=force)
        if force:
            log.warning("reload forced", extra={"probe": name, "dry_run": dry_run})
        return reload


def _reload_answer(name: str, reload: ProbeReload, *, dry_run: bool) -> web.Response:
    """200 for a reload that ended well, 202 for one that runs.

    Raises:
        Problem: 409, it was refused or failed.
    """
    stands = reload_state(reload)
    if stands["state"] in ("refused", "failed"):
        detail = f"cannot reload {name!r}: {stands['state']}: {stands['detail']}"
        raise Problem(HTTPStatus.CONFLICT, detail)
    answer = ReloadAnswer(
        probe=name,
        state="running" if stands["state"] == "running" else "done",
        started_at=format_time(reload.started_at),
        dry_run=dry_run,
    )
    if "detail" in stands:
        answer["detail"] = stands["detail"]
    if answer["state"] == "done":
        return web.Response(body=json_body(jsonable(answer)), headers=JSON_HEADERS)
    headers = JSON_HEADERS | {"Location": f"/health/{name}"}
    return web.Response(status=HTTPStatus.ACCEPTED, body=json_body(jsonable(answer)), headers=headers)


def check_names(request: web.Request, known: Sequence[str]) -> None:
    """Refuse a parameter that is not *known*, or that is there twice.

    Raises:
        Problem: 400 that names it.
    """
    for name in request.query:
        if name not in known:
            raise Problem(400, f"no such parameter: {name[:60]!r}; {nearest(name[:60], known)}")
        if len(request.query.getall(name)) > 1:
            raise Problem(400, f"the parameter {name!r} is there twice; give it once")


def flag(request: web.Request, name: str) -> bool:
    """Tell if the parameter *name* is there, and not as a no.

    Raises:
        Problem: 400, it is neither a yes nor a no.
    """
    value = request.query.get(name, "false")
    if value not in YES + NO:
        raise Problem(400, f"{name}={value[:60]!r} is neither true nor false; write one of them")
    return value in YES


def duration(request: web.Request, name: str, default: float) -> float:
    """Return the parameter *name* in seconds: a number, or text like ``15s``.

    Raises:
        Problem: 400, it is no duration.
    """
    value = request.query.get(name)
    if value is None:
        return default
    try:
        given = seconds(value)
    except ValueError as error:
        raise Problem(400, f"{name}={value[:60]!r} is {error}") from error
    return float(given)  # type: ignore[arg-type]  # text gives a number
