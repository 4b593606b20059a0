"""The guard of the Unix socket's path, which another user of its folder may replace."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from mlopsd.log_limit import LogLimiter
from mlopsd.web.context import WebContext
from mlopsd.web.server.listener import ListenError

if TYPE_CHECKING:
    from mlopsd.web.server.server import HttpServer

PAUSE = 3.0  # seconds between two checks
SAME_AGAIN = 300.0  # seconds; equal problems within it have one log line
COMPONENT = "socket"  # of mlopsd_errors_total
log = logging.getLogger("mlopsd.socket")


class SocketGuard:
    """The guard of the Unix socket's path. It binds the path again if it no longer leads to the daemon.

    While that fails, ``info.socket_error`` of the context has the reason.
    """

    def __init__(self, server: HttpServer, context: WebContext, pause: float = PAUSE) -> None:
        self._server = server
        self._context = context
        self._pause = pause
        self._limiter = LogLimiter(window=SAME_AGAIN)

    async def run(self) -> None:
        """Check at an interval, until cancelled."""
        while True:
            await asyncio.sleep(self._pause)
            await self.check()

    async def check(self) -> None:
        """Check once, and bind the path again if it does not lead to the daemon."""
        path = self._server.places["socket"]
        try:
            if not await self._server.is_socket_in_place():
                self._report_loss(path)
                await self._server.bind_socket_again()
                log.warning("Unix socket bound again", extra={"path": path})
            self._set_error(None)
        except (ListenError, OSError, RuntimeError) as error:  # the process may lack a descriptor or a thread
            self._set_error(str(error))
            self._log("Unix socket lost", path, str(error))

    def _set_error(self, error: str | None) -> None:
        if error != self._context.info.socket_error:
            self._context.info = replace(self._context.info, socket_error=error)

    def _report_loss(self, path: str) -> None:
        if self._context.info.socket_error is None:
            self._context.metrics.error(COMPONENT)
            self._log("Unix socket replaced", path, "its path no longer leads to this daemon")

    def _log(self, event: str, path: str, reason: str) -> None:
        if (repeats := self._limiter.allow((event, reason))) is not None:
            more = {"repeats": repeats} if repeats else {}
            log.error(event, extra={"path": path, "reason": reason, **more})
