"""The guard of the Unix socket's path: another who may write in its folder may take the daemon's place."""

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

PAUSE = 3.0  # seconds between two looks
SAME_AGAIN = 300.0  # seconds in which the same trouble has one line in the log
COMPONENT = "socket"  # of mlopsd_errors_total
log = logging.getLogger("mlopsd.socket")


class SocketGuard:
    """Guard of the Unix socket's path: binds it again when it no longer leads to the daemon.

    While it cannot be bound again, ``info.socket_error`` of the context says why.
    """

    def __init__(self, doors: HttpServer, context: WebContext, pause: float = PAUSE) -> None:
        self._doors = doors
        self._context = context
        self._pause = pause
        self._repeats = LogLimiter(window=SAME_AGAIN)

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await asyncio.sleep(self._pause)
            await self.look()

    async def look(self) -> None:
        """Look once, and bind the path again if it is somebody else's or nobody's."""
        path = self._doors.places["socket"]
        try:
            if not await self._doors.is_socket_in_place():
                self._tell_loss(path)
                await self._doors.bind_socket_again()
                log.warning("Unix socket bound again", extra={"path": path})
            self._tell(None)
        except (ListenError, OSError, RuntimeError) as error:  # no descriptor or no thread is left
            self._tell(str(error))
            self._say("Unix socket lost", path, str(error))

    def _tell(self, error: str | None) -> None:
        if error != self._context.info.socket_error:
            self._context.info = replace(self._context.info, socket_error=error)

    def _tell_loss(self, path: str) -> None:
        if self._context.info.socket_error is None:
            self._context.metrics.error(COMPONENT)
            self._say("Unix socket replaced", path, "its path no longer leads to this daemon")

    def _say(self, event: str, path: str, reason: str) -> None:
        if (kept_back := self._repeats.worth_saying((event, reason))) is not None:
            more = {"kept_back": kept_back} if kept_back else {}
            log.error(event, extra={"path": path, "reason": reason, **more})
